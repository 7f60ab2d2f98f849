"""Events that orders emits."""

from __future__ import annotations

from uuid import UUID

from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext
from pydantic import BaseModel, ConfigDict

from outbox import DomainEvent
from shared.money import Money


class OrderedLine(BaseModel):
    """A quantity of one product."""

    model_config = ConfigDict(frozen=True)

    sku: str
    quantity: int


def _in_words(lines: list[OrderedLine]) -> str:
    text = _("%(quantity)d of %(sku)s")
    return pgettext("between parts of a sentence", ", ").join(
        text % line.model_dump() for line in lines
    )


class OrderPlaced(DomainEvent, key="order_id"):
    """An order is stored and waits for stock and payment. It carries all data that both need."""

    order_id: UUID
    lines: list[OrderedLine]
    total: Money
    payment_method: str

    def in_words(self) -> str:
        facts = {"lines": _in_words(self.lines), "total": self.total}
        return _("Order placed: %(lines)s, for %(total)s") % facts


class OrderConfirmed(DomainEvent, key="order_id"):
    """Stock is reserved and the payment is authorized."""

    order_id: UUID

    def in_words(self) -> str:
        return _("Order confirmed: stock is reserved, and the payment is authorized")


class OrderReadyToShip(DomainEvent, key="order_id"):
    """The order is paid and may be packed. Handlers read other data from `orders.queries`."""

    order_id: UUID

    def in_words(self) -> str:
        return _("Order ready to ship: the payment is captured")


class OrderShipped(DomainEvent, key="order_id"):
    """The parcel is handed over to the carrier."""

    order_id: UUID
    carrier: str
    tracking_number: str

    def in_words(self) -> str:
        if not self.carrier:
            return _("Order shipped")
        facts = {"carrier": self.carrier, "number": self.tracking_number or "-"}
        return _("Order shipped with %(carrier)s, tracking number %(number)s") % facts


class OrderReceived(DomainEvent, key="order_id"):
    """The customer has the parcel."""

    order_id: UUID

    def in_words(self) -> str:
        return _("Order received by the customer")


class OrderCancelled(DomainEvent, key="order_id"):
    """The order is cancelled. Its stock is released, and its payment voided or refunded."""

    order_id: UUID
    reason: str

    def in_words(self) -> str:
        reasons = {
            "out_of_stock": _("out of stock"),
            "payment_declined": _("payment declined"),
            "requested": pgettext("a reason", "requested"),
            "overdue": _("not completed in time"),
        }
        return _("Order cancelled: %s") % reasons.get(self.reason, self.reason)


class RefundRequested(DomainEvent, key="order_id"):
    """Staff requested a refund. The returned units, if any, go back to stock."""

    order_id: UUID
    refund_id: UUID
    amount: Money
    returned: list[OrderedLine]

    def in_words(self) -> str:
        text = _("Refund of %s requested") % self.amount
        if not self.returned:
            return text
        return _("%(refund)s, with the return of %(lines)s") % {
            "refund": text,
            "lines": _in_words(self.returned),
        }


class ErasurePostponed(DomainEvent, key="subject"):
    """A customer is to be forgotten, but these orders were not final. Emitted with a delay."""

    subject: str
    order_ids: list[UUID]

    def in_words(self) -> str:
        number = len(self.order_ids)
        text = ngettext(
            "Erasure postponed: %d order is not final",
            "Erasure postponed: %d orders are not final",
            number,
        )
        return text % number


class CustomerForgotten(DomainEvent, key="subject"):
    """All orders of a customer are final, and their address is blanked."""

    subject: str

    def in_words(self) -> str:
        return _("Customer forgotten: the addresses of all orders are blanked")
