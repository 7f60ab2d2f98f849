from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.money import CurrencyMismatch, Money, add_up, exponent

AMOUNTS = st.integers(min_value=-(10**15), max_value=10**15)


def yen(amount: int) -> Money:
    return Money(amount=amount, currency="JPY")


class TestMoney:
    def test_adds_subtracts_and_multiplies_in_minor_units(self):
        assert yen(1200) + yen(30) == yen(1230)
        assert yen(1200) - yen(30) == yen(1170)
        assert yen(1200) * 3 == 3 * yen(1200) == yen(3600)
        assert add_up(yen(amount) for amount in (1200, 30, 4)) == yen(1234)

    @given(one=AMOUNTS, other=AMOUNTS)
    def test_never_loses_a_unit(self, one, other):
        assert (yen(one) + yen(other)) - yen(other) == yen(one)

    def test_compares_by_amount(self):
        assert yen(1) < yen(2) <= yen(2)
        assert yen(3) > yen(2) >= yen(2)

    @pytest.mark.parametrize("operation", ["__add__", "__sub__", "__lt__", "__ge__"])
    def test_refuses_another_currency(self, operation):
        dollars = Money(amount=1, currency="USD")

        with pytest.raises(CurrencyMismatch, match="JPY and USD"):
            getattr(yen(1), operation)(dollars)

    def test_is_not_multiplied_by_a_fraction(self):
        with pytest.raises(TypeError):
            yen(100) * 0.1  # type: ignore[operator]  # this is the mistake under test

    @pytest.mark.parametrize("amount", [1.5, 1.0, "100", True])
    def test_takes_whole_numbers_only(self, amount):
        with pytest.raises(ValidationError):
            yen(amount)

    @pytest.mark.parametrize("currency", ["jpy", "YEN!", "", "JPY\n"])
    def test_takes_three_capitals_as_currency(self, currency):
        with pytest.raises(ValidationError):
            Money(amount=1, currency=currency)

    def test_cannot_be_changed(self):
        with pytest.raises(ValidationError):
            yen(1).amount = 2  # type: ignore[misc]  # this is the mistake under test


class TestJson:
    def test_is_amount_and_currency(self):
        assert yen(12800).model_dump(mode="json") == {"amount": 12800, "currency": "JPY"}

    def test_comes_back_equal(self):
        assert Money.model_validate_json(yen(12800).model_dump_json()) == yen(12800)


class TestExponent:
    @pytest.mark.parametrize(
        ("currency", "digits"),
        [("JPY", 0), ("ISK", 0), ("USD", 2), ("RSD", 2), ("LBP", 2), ("IQD", 3), ("CLF", 4)],
    )
    def test_is_that_of_iso_4217(self, currency: str, digits: int):
        """Seen to be that of CLDR: 0 for RSD, LBP and IQD. Banks took a hundredth of the price."""
        assert exponent(currency) == digits


class TestFormat:
    @pytest.mark.parametrize(
        ("money", "locale", "text"),
        [
            (yen(12800), "en", "¥12,800"),
            (yen(12800), "ja", "￥12,800"),
            (Money(amount=1280, currency="USD"), "en", "$12.80"),
            (Money(amount=1280, currency="KWD"), "en", "KWD1.280"),
            (Money(amount=1280, currency="RSD"), "en", "RSD12.80"),
            (Money(amount=1280, currency="RSD"), "ja", "RSD12.80"),
            (Money(amount=1280, currency="ISK"), "en", "ISK1,280"),
            (yen(-5), "en-gb", "-JP¥5"),
        ],
    )
    def test_follows_currency_and_language(self, money, locale, text):
        assert money.format(locale) == text
