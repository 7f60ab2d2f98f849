"""What payments does. Each move locks the payment first, then reads, decides and emits.

Money moves in three steps, so that a crash between any two of them is made good by running them
all again: the intent is committed, the bank is asked under the intent's own key (`asking`, with no
transaction open), its answer is recorded. A step that has been taken before changes nothing.
"""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils import timezone

from money import Money
from outbox import DomainEvent, emit
from payments.events import (
    PaymentAuthorized,
    PaymentCaptured,
    PaymentDeclined,
    PaymentRefunded,
    PaymentVoided,
)
from payments.gateway import Authorization, Capture, Void
from payments.gateway import Refund as RefundAnswer
from payments.models import MONEY_WAS_TAKEN, NEW, Payment, Refund, Status

BANK = "the bank's answer"
CANCELLATION = "orders.OrderCancelled"


class UnableToCapture(Exception):
    """The bank does not hold money for this order, so there is nothing to take."""


@transaction.atomic(durable=True)
def intend_payment(*, order_id: UUID, total: Money, payment_method: str) -> Payment:
    """Commit that the order is to be paid, unless it was cancelled before."""
    payment = Payment.locked(order_id)
    if payment.status == NEW:
        payment.amount, payment.currency = total.amount, total.currency
        payment.payment_method = payment_method
        payment.move_to(Status.INTENDED, cause="orders.OrderPlaced")
    return payment


@transaction.atomic
def record_authorization(*, order_id: UUID, answer: Authorization | None) -> None:
    """Note that the bank holds the money, or that it declined."""
    if answer is None:
        return
    payment = Payment.locked(order_id)
    if payment.status != Status.INTENDED:
        return
    payment.authorization_id = answer.authorization_id
    if answer.is_declined:
        payment.declined_reason = answer.declined_reason
        payment.move_to(Status.DECLINED, cause=BANK)
        _tell(payment, PaymentDeclined(order_id=order_id, reason=answer.declined_reason))
    else:
        payment.move_to(Status.AUTHORIZED, cause=BANK)
        _tell(payment, PaymentAuthorized(order_id=order_id, amount=payment.total))


@transaction.atomic(durable=True)
def intend_capture(*, order_id: UUID) -> Payment:
    """Commit that the money is to be taken, unless the order was cancelled.

    Raises:
        UnableToCapture: the bank was not asked yet, or declined.
    """
    payment = Payment.locked(order_id)
    if payment.cancelled_at or _was_declined_at_capture(payment):
        return payment
    if payment.status in {NEW, Status.INTENDED, Status.DECLINED}:
        raise UnableToCapture(f"{order_id}: {UnableToCapture.__doc__}")
    if payment.status == Status.AUTHORIZED:
        payment.move_to(Status.CAPTURING, cause="orders.OrderConfirmed")
    return payment


@transaction.atomic(durable=True)
def note_asked(*, order_id: UUID) -> None:
    """Commit that the bank is about to be asked with a key that it may have forgotten."""
    payment = Payment.locked(order_id)
    payment.asked_at = timezone.now()
    payment.save(update_fields=["asked_at"])


@transaction.atomic
def record_capture(*, order_id: UUID, answer: Capture | None) -> None:
    """Note that the bank took the money, or that it declined after all."""
    if answer is None:
        return
    payment = Payment.locked(order_id)
    if payment.status != Status.CAPTURING:
        return
    if answer.is_declined:
        payment.declined_reason = answer.declined_reason
        payment.move_to(Status.DECLINED, cause=BANK)
        _tell(payment, PaymentDeclined(order_id=order_id, reason=answer.declined_reason))
        return
    payment.capture_id = answer.capture_id
    payment.move_to(Status.CAPTURED, cause=BANK)
    _tell(payment, PaymentCaptured(order_id=order_id, amount=payment.total))


@transaction.atomic(durable=True)
def intend_reversal(*, order_id: UUID) -> Payment:
    """Commit that the money is to be let go or given back, as far as its place is known.

    Nothing was asked of the bank: see to it that nothing will be. An answer is still missing:
    remember the cancellation; record the answer, then call this again.
    """
    payment = Payment.locked(order_id)
    payment.cancelled_at = payment.cancelled_at or timezone.now()
    way_back = {NEW: Status.FORESTALLED, Status.AUTHORIZED: Status.VOIDING}
    if payment.status in way_back:
        payment.move_to(way_back[payment.status], cause=CANCELLATION)
    elif payment.status == Status.CAPTURED and payment.left.amount:
        _intend(payment, refund_id=payment.id, amount=payment.left, cause=CANCELLATION)
        payment.move_to(Status.REFUNDING, cause=CANCELLATION)
    else:
        payment.save(update_fields=["cancelled_at"])
    return payment


@transaction.atomic
def record_void(*, order_id: UUID, answer: Void | None) -> None:
    """Note that the bank holds nothing for the order any more."""
    if answer is None:
        return
    payment = Payment.locked(order_id)
    if payment.status != Status.VOIDING:
        return
    payment.void_id = answer.void_id
    payment.move_to(Status.VOIDED, cause=BANK)
    emit(PaymentVoided(order_id=order_id, amount=payment.total))


class UnableToRefund(Exception):
    """The bank has not taken so much for this order, so there is nothing to give back."""


@transaction.atomic(durable=True)
def intend_refund(*, order_id: UUID, refund_id: UUID, amount: Money) -> Refund | None:
    """Commit that this much is to be given back. None if a cancellation gives back all of it.

    Raises:
        UnableToRefund: nothing was captured, or other refunds leave less than that.
    """
    payment = Payment.locked(order_id)
    known = payment.refunds.filter(pk=refund_id).first()
    if known or payment.cancelled_at:
        return known
    if payment.status not in MONEY_WAS_TAKEN or (payment.left - amount).amount < 0:
        raise UnableToRefund(f"{order_id}: {UnableToRefund.__doc__}")
    return _intend(payment, refund_id=refund_id, amount=amount, cause="orders.RefundRequested")


@transaction.atomic
def record_refund(*, order_id: UUID, refund_id: UUID, answer: RefundAnswer | None) -> None:
    """Note that the bank gave the money back."""
    if answer is None:
        return
    payment = Payment.locked(order_id)
    refund = payment.refunds.get(pk=refund_id)
    if refund.status != Refund.Status.INTENDED:
        return
    refund.bank_id = answer.refund_id
    refund.move_to(Refund.Status.REFUNDED, cause=BANK)
    if payment.is_given_back:
        payment.move_to(Status.REFUNDED, cause=BANK)
    emit(PaymentRefunded(order_id=order_id, amount=refund.total, refund_id=refund_id))


def _intend(payment: Payment, *, refund_id: UUID, amount: Money, cause: str) -> Refund:
    payment.refund_amount += amount.amount
    payment.save(update_fields=["refund_amount"])
    refund = Refund(id=refund_id, payment=payment, amount=amount.amount)
    refund.move_to(Refund.Status.INTENDED, cause=cause)
    return refund


def _was_declined_at_capture(payment: Payment) -> bool:
    return (
        payment.status == Status.DECLINED
        and payment.history.filter(to_status=Status.CAPTURING).exists()
    )


def _tell(payment: Payment, event: DomainEvent) -> None:
    """Emit it, unless the order was cancelled: then nobody may act on it, the money goes back."""
    if not payment.cancelled_at:
        emit(event)
