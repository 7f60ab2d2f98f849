"""Reads of payments for other apps and the API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q, Sum
from django.db.models.functions import Coalesce

from payments import gateway
from payments.models import MONEY_IS_HELD, Payment, Refund
from shared.money import Money


@dataclass(frozen=True, kw_only=True)
class PaymentMove:
    to_status: str
    cause: str
    moved_at: datetime


@dataclass(frozen=True, kw_only=True)
class RefundSummary:
    """One refund. It is done once the bank has confirmed it."""

    refund_id: UUID
    amount: Money
    is_done: bool
    moved_at: datetime


@dataclass(frozen=True, kw_only=True)
class PaymentSummary:
    """The state of an order's money.

    Attributes:
        total: None if the order was cancelled before the bank was asked.
        awaits_bank: the bank was, or is about to be, asked; its answer is not stored yet.
        moves: the oldest first.
        refunds: the oldest first.
    """

    status: str
    status_shown: str
    total: Money | None
    declined_reason: str
    awaits_bank: bool
    moved_at: datetime
    moves: list[PaymentMove]
    refunds: list[RefundSummary]


def takes_currency(currency: str) -> bool:
    """Return whether orders in this currency (ISO 4217) can be paid exactly."""
    return gateway.takes_currency(currency)


def refuses_test_cards() -> bool:
    """Return whether the bank is known to refuse test cards: Stripe, with a live key."""
    return gateway.has_live_key()


def payment_of(order_id: UUID) -> PaymentSummary | None:
    """Return the payment of an order; None until payments has handled an event of the order."""
    payment = Payment.objects.filter(order_id=order_id).prefetch_related("history").first()
    if payment is None:
        return None
    return PaymentSummary(
        status=payment.status,
        status_shown=payment.get_status_display(),
        total=payment.total if payment.amount else None,
        declined_reason=payment.declined_reason,
        awaits_bank=payment.status in Payment.AWAIT_BANK,
        moved_at=payment.moved_at,
        moves=[
            PaymentMove(to_status=move.to_status, cause=move.cause, moved_at=move.moved_at)
            for move in payment.history.all()
        ],
        refunds=[_summary(refund) for refund in payment.refunds.order_by("id")],
    )


def refunds_of(order_ids: Iterable[UUID]) -> dict[UUID, list[RefundSummary]]:
    """Return the refunds of these orders, the oldest first, in one query.

    They include the refund of a cancelled order. Orders without a refund are left out.
    """
    rows = Refund.objects.filter(payment__order_id__in=list(order_ids)).select_related("payment")
    found: dict[UUID, list[RefundSummary]] = {}
    for row in rows.order_by("id"):
        found.setdefault(row.payment.order_id, []).append(_summary(row))
    return found


@dataclass(frozen=True, kw_only=True)
class Balance:
    """An order's money in our tables, in minor units.

    Attributes:
        kept: captured, less what the bank has refunded.
        held: at the bank for us, neither captured nor voided.
        currency: "" if the bank was never asked.
    """

    kept: int = 0
    held: int = 0
    currency: str = ""


NOTHING = Balance()


def balances(order_ids: Iterable[UUID]) -> dict[UUID, Balance]:
    """Return the balances of these orders, in one query. Leave out orders without a payment."""
    done = Q(refunds__status=Refund.Status.REFUNDED)
    rows = Payment.objects.filter(order_id__in=list(order_ids)).annotate(
        given_back=Coalesce(Sum("refunds__amount", filter=done), 0)
    )
    return {
        row.order_id: Balance(
            kept=(row.amount or 0) - row.given_back if row.capture_id else 0,
            held=(row.amount or 0) if row.status in MONEY_IS_HELD else 0,
            currency=row.currency,
        )
        for row in rows
    }


def _summary(refund: Refund) -> RefundSummary:
    return RefundSummary(
        refund_id=refund.id,
        amount=refund.total,
        is_done=refund.status == Refund.Status.REFUNDED,
        moved_at=refund.moved_at,
    )
