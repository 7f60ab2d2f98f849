"""The progress of an order in words for its customer: a headline, five steps, and the money."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from django.db.models import TextChoices
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from orders.queries import OrderSummary
from payments.queries import PaymentSummary, payment_of

#: Seconds between two requests of the page. It waits about a tenth of the time since the last
#: change, so each hour without a change costs fewer requests than the one before.
PACES = (1, 2, 5, 10, 20, 30, 60, 120, 300)
#: The shortest time between two reloads of a page without JavaScript.
SHORTEST_RELOAD = 3
#: The status of the payment of a cancelled order whose money moves no more.
SETTLED = {"declined", "voided", "refunded", "forestalled"}


class State(TextChoices):
    """The state of a step; `label` is for display."""

    DONE = "done", _("done")
    NOW = "now", _("in progress")
    OPEN = "open", _("not started")
    FAILED = "failed", _("failed")
    ENDED = "ended", _("not needed")


HEADLINES = {
    "placed": _("We reserve your goods and ask the bank. You may close this page."),
    "confirmed": _("Your goods are reserved, and the bank has agreed. It now transfers the money."),
    "ready_to_ship": _("Your order is paid and ready to ship."),
    "shipped": _("Your parcel is on its way."),
    "received": _("Your parcel has arrived."),
}
CANCELLED = {
    "out_of_stock": _("Cancelled: the goods were sold out."),
    "payment_declined": _("Cancelled: the bank declined the card."),
    "requested": _("Cancelled, as you asked."),
    "overdue": _("Cancelled: the order was not completed in time."),
}
CANCELLED_BY_STAFF = _("Cancelled by the shop.")
#: By the status of the payment, for a cancelled order.
MONEY_BACK = {
    "intended": _(
        "The bank has not answered yet. If it reserves the amount, it releases it again."
    ),
    "authorized": _("The bank will release the reserved amount."),
    "capturing": _("The bank will return the amount."),
    "captured": _("The bank will return the amount."),
    "voiding": _("The bank is releasing the reserved amount."),
    "voided": _("The bank has released the reserved amount. You paid nothing."),
    "refunding": _("The bank is returning the amount."),
    "refunded": _("The bank has returned the amount."),
}
NOTHING_PAID = _("You paid nothing.")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of an order."""

    name: str | Promise
    state: State


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of one order.

    Attributes:
        money: a sentence on the money of a cancelled order, or "".
        seconds: until the page asks again; None if the order is final.
    """

    headline: str | Promise
    money: str | Promise
    steps: list[Step]
    is_cancelled: bool
    may_cancel: bool
    seconds: int | None

    @property
    def reload_seconds(self) -> int:
        """Seconds until a page without JavaScript reloads; 0: never."""
        return max(self.seconds, SHORTEST_RELOAD) if self.seconds else 0

    @property
    def shown(self) -> str:
        """A short hash of all that is shown."""
        texts = [self.headline, self.money, *(step.state for step in self.steps)]
        return hashlib.sha256("|".join(map(str, texts)).encode()).hexdigest()[:16]

    @property
    def version(self) -> str:
        """The hash and the interval. The page sends both, to get changes only."""
        return f"{self.shown}-{self.seconds or 0}"


def progress_of(order: OrderSummary) -> Progress:
    """Return the progress of an order, as stored now."""
    payment = payment_of(order.order_id)
    is_cancelled = order.status == "cancelled"
    return Progress(
        headline=_headline(order),
        money=_money(payment) if is_cancelled else "",
        steps=_steps(order),
        is_cancelled=is_cancelled,
        may_cancel=order.status in {"placed", "confirmed", "ready_to_ship"},
        seconds=_pace(order, payment),
    )


def _headline(order: OrderSummary) -> str | Promise:
    if order.status != "cancelled":
        return HEADLINES[order.status]
    if order.cancel_reason == "requested" and not order.is_cancelled_by_customer:
        return CANCELLED_BY_STAFF
    return CANCELLED[order.cancel_reason]


def _money(payment: PaymentSummary | None) -> str | Promise:
    return MONEY_BACK.get(payment.status, NOTHING_PAID) if payment else NOTHING_PAID


def _steps(order: OrderSummary) -> list[Step]:
    """Return the steps. Goods and authorization are two handlers, which run at the same time."""
    is_cancelled, reason = order.status == "cancelled", order.cancel_reason
    waits = State.ENDED if is_cancelled else State.OPEN
    runs = State.ENDED if is_cancelled else State.NOW
    is_paid = order.status in {"ready_to_ship", "shipped", "received"}
    is_sent = order.status in {"shipped", "received"}
    return [
        Step(name=_("Order stored"), state=State.DONE),
        Step(
            name=_("Goods reserved"),
            state=_state(order.is_stock_reserved, reason == "out_of_stock", runs),
        ),
        Step(
            name=_("Card accepted"),
            state=_state(order.is_payment_authorized, reason == "payment_declined", runs),
        ),
        Step(
            name=_("Paid and ready to ship"),
            state=_state(is_paid, False, State.NOW if order.status == "confirmed" else waits),
        ),
        Step(name=_("Shipped"), state=_state(is_sent, False, waits)),
    ]


def _state(is_done: bool, has_failed: bool, otherwise: State) -> State:
    if has_failed:
        return State.FAILED
    return State.DONE if is_done else otherwise


def _pace(order: OrderSummary, payment: PaymentSummary | None) -> int | None:
    """Return the seconds until the page asks again; None for a final order."""
    if order.status == "received" or (order.status == "cancelled" and _is_settled(payment)):
        return None
    changed_at = max(order.changed_at, payment.moved_at) if payment else order.changed_at
    wait = (timezone.now() - changed_at).total_seconds() / 10
    return max((pace for pace in PACES if pace <= wait), default=PACES[0])


def _is_settled(payment: PaymentSummary | None) -> bool:
    """Return whether the money of a cancelled order moves no more.

    Without a payment, payments have not processed the cancellation yet.
    """
    return payment is not None and payment.status in SETTLED
