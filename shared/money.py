"""Amounts of one currency in its smallest unit, without floats, rounding or mixed sums."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from decimal import Decimal
from functools import reduce

from babel.numbers import format_currency, get_currency_precision
from django.utils.translation import get_language
from pydantic import BaseModel, ConfigDict, Field


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
        units = Decimal(self.amount).scaleb(-get_currency_precision(self.currency))
        return format_currency(units, self.currency, locale=locale.replace("-", "_"))

    def _of(self, amount: int) -> Money:
        return Money(amount=amount, currency=self.currency)

    def _comparable(self, other: Money) -> int:
        if other.currency != self.currency:
            raise CurrencyMismatch(self.currency, other.currency)
        return other.amount


def add_up(amounts: Iterable[Money]) -> Money:
    """Return the sum of at least one amount; raise CurrencyMismatch for a second currency."""
    return reduce(operator.add, amounts)
