"""Amounts of one currency in its smallest unit, without floats, rounding or mixed sums."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from copy import copy
from decimal import Decimal
from functools import reduce

from babel import Locale
from babel.numbers import format_currency
from django.utils.translation import get_language
from pydantic import BaseModel, ConfigDict, Field

#: Decimal digits of a minor unit by ISO 4217, if they are not two. Banks count in these units.
#: babel has other numbers, those of CLDR, which leaves out coins that nobody uses: 0 for RSD.
_CURRENCIES = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_EXPONENTS = {code: digits for digits, codes in _CURRENCIES.items() for code in codes.split()}


def exponent(currency: str) -> int:
    """Return the number of decimal digits of a currency's minor unit (ISO 4217), such as 2."""
    return _EXPONENTS.get(currency, 2)


class CurrencyMismatch(ValueError):
    """Amounts of two currencies cannot be added or compared."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other} cannot be added or compared.")


class Money(BaseModel):
    """An amount in minor units: `Money(amount=12800, currency="JPY")` is 12,800 yen.

    `Money(amount=1280, currency="USD")` is 12 dollars and 80 cents.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: int = Field(strict=True)
    currency: str = Field(pattern=r"^[A-Z]{3}$")

    def __add__(self, other: Money) -> Money:
        return self._of(self.amount + self._comparable(other))

    def __sub__(self, other: Money) -> Money:
        return self._of(self.amount - self._comparable(other))

    def __mul__(self, times: int) -> Money:
        if type(times) is not int:
            return NotImplemented
        return self._of(self.amount * times)

    __rmul__ = __mul__

    def __lt__(self, other: Money) -> bool:
        return self.amount < self._comparable(other)

    def __le__(self, other: Money) -> bool:
        return self.amount <= self._comparable(other)

    def __gt__(self, other: Money) -> bool:
        return self.amount > self._comparable(other)

    def __ge__(self, other: Money) -> bool:
        return self.amount >= self._comparable(other)

    def __str__(self) -> str:
        """Return the amount in the notation of the active language."""
        return self.format(get_language() or "en")

    def format(self, locale: str = "en") -> str:
        """Return the amount in the notation of a locale, such as "¥12,800"."""
        digits, notation = exponent(self.currency), Locale.parse(locale.replace("-", "_"))
        pattern = copy(notation.currency_formats["standard"])  # it is shared by all callers
        pattern.frac_prec = (digits, digits)
        units = Decimal(self.amount).scaleb(-digits)
        return format_currency(
            units, self.currency, format=pattern, locale=notation, currency_digits=False
        )

    def _of(self, amount: int) -> Money:
        return Money(amount=amount, currency=self.currency)

    def _comparable(self, other: Money) -> int:
        if other.currency != self.currency:
            raise CurrencyMismatch(self.currency, other.currency)
        return other.amount


def add_up(amounts: Iterable[Money]) -> Money:
    """Return the sum of at least one amount; raise CurrencyMismatch for a second currency."""
    return reduce(operator.add, amounts)
