"""Events that inventory emits."""

from __future__ import annotations

from uuid import UUID

from django.utils.translation import gettext as _
from django.utils.translation import pgettext
from pydantic import BaseModel, ConfigDict

from outbox import DomainEvent


class StockLine(BaseModel):
    """A quantity of one product."""

    model_config = ConfigDict(frozen=True)

    sku: str
    quantity: int


class MissingLine(BaseModel):
    """A product with fewer units available than wanted."""

    model_config = ConfigDict(frozen=True)

    sku: str
    wanted: int
    available: int


def _in_words(lines: list[StockLine]) -> str:
    text = _("%(quantity)d of %(sku)s")
    return pgettext("between parts of a sentence", ", ").join(
        text % line.model_dump() for line in lines
    )


class StockReserved(DomainEvent, key="order_id"):
    """All units of the order are reserved."""

    order_id: UUID

    def in_words(self) -> str:
        return _("Stock reserved for all lines of the order")


class StockUnavailable(DomainEvent, key="order_id"):
    """At least one product is short, so no unit is reserved."""

    order_id: UUID
    missing: list[MissingLine]

    def in_words(self) -> str:
        text = _("%(sku)s (%(wanted)d wanted, %(available)d available)")
        lines = pgettext("between parts of a sentence", ", ").join(
            text % line.model_dump() for line in self.missing
        )
        return _("Stock unavailable: %s") % lines


class StockReleased(DomainEvent, key="order_id"):
    """The units reserved for the order are available again. `lines` is empty if none is left."""

    order_id: UUID
    lines: list[StockLine]

    def in_words(self) -> str:
        if not self.lines:
            return _("No stock released: all units went back to stock before")
        return _("Stock released: %s") % _in_words(self.lines)


class StockIssued(DomainEvent, key="order_id"):
    """The units reserved for the order are shipped. `lines` is empty if none is left."""

    order_id: UUID
    lines: list[StockLine]

    def in_words(self) -> str:
        if not self.lines:
            return _("No stock issued for the parcel: all units went back to stock before")
        return _("Stock issued for the parcel: %s") % _in_words(self.lines)


class StockReturned(DomainEvent, key="order_id"):
    """Units of the order were refunded and are available again."""

    order_id: UUID
    refund_id: UUID
    lines: list[StockLine]

    def in_words(self) -> str:
        return _("Stock returned: %s") % _in_words(self.lines)
