"""Events that payments emits. After a cancellation these are only voids, refunds and reports."""

from __future__ import annotations

from uuid import UUID

from django.utils.translation import gettext as _

from outbox import DomainEvent
from shared.money import Money


class PaymentAuthorized(DomainEvent, key="order_id"):
    """The bank authorized the payment of the order. Nothing is captured yet."""

    order_id: UUID
    amount: Money

    def in_words(self) -> str:
        return _("%(amount)s authorized") % {"amount": self.amount}


class PaymentDeclined(DomainEvent, key="order_id"):
    """The bank declined the payment. `reason` is its code, such as "insufficient_funds"."""

    order_id: UUID
    reason: str

    def in_words(self) -> str:
        return _("Payment declined: %s") % self.reason.replace("_", " ")


class PaymentCaptured(DomainEvent, key="order_id"):
    """The bank captured the authorized payment."""

    order_id: UUID
    amount: Money

    def in_words(self) -> str:
        return _("%(amount)s captured") % {"amount": self.amount}


class PaymentVoided(DomainEvent, key="order_id"):
    """The bank voided the authorization of a cancelled order. Nothing was captured."""

    order_id: UUID
    amount: Money

    def in_words(self) -> str:
        return _("%(amount)s voided") % {"amount": self.amount}


class PaymentRefunded(DomainEvent, key="order_id"):
    """The bank refunded the captured money, or a part of it; each refund is emitted once."""

    order_id: UUID
    amount: Money
    refund_id: UUID | None = None

    def in_words(self) -> str:
        return _("%(amount)s refunded") % {"amount": self.amount}


class BankReported(DomainEvent, key="order_id"):
    """The bank sent a report by itself; it is stored under its `report_id`."""

    order_id: UUID
    report_id: str

    def in_words(self) -> str:
        return _("Report %s received from the bank") % self.report_id
