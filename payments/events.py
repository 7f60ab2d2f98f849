"""Events that payments emits. After a cancellation these are only voids, refunds and reports."""

from __future__ import annotations

from uuid import UUID

from django.utils.translation import gettext as _

from outbox import DomainEvent
from shared.money import Money


class PaymentAuthorized(DomainEvent, key="order_id"):
    """The bank holds the money for the order; nothing is captured yet."""

    order_id: UUID
    amount: Money

    def in_words(self) -> str:
        return _("%(amount)s authorized") % {"amount": self.amount.format()}


class PaymentDeclined(DomainEvent, key="order_id"):
    """The bank said no, at first or at capture; `reason` is its code: "insufficient_funds"."""

    order_id: UUID
    reason: str


class PaymentCaptured(DomainEvent, key="order_id"):
    """The bank took the money that it held: the payment is completed."""

    order_id: UUID
    amount: Money

    def in_words(self) -> str:
        return _("%(amount)s captured") % {"amount": self.amount.format()}


class PaymentVoided(DomainEvent, key="order_id"):
    """The bank released the money that it held for a cancelled order; nothing was captured."""

    order_id: UUID
    amount: Money

    def in_words(self) -> str:
        return _("%(amount)s let go") % {"amount": self.amount.format()}


class PaymentRefunded(DomainEvent, key="order_id"):
    """The bank refunded the captured money, or a part of it; each refund is emitted once."""

    order_id: UUID
    amount: Money
    refund_id: UUID | None = None

    def in_words(self) -> str:
        return _("%(amount)s refunded") % {"amount": self.amount.format()}


class BankReported(DomainEvent, key="order_id"):
    """The bank sent a report by itself; it is stored under its `report_id`."""

    order_id: UUID
    report_id: str
