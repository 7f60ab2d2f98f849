"""Services of payments. Each move locks the payment first, then reads, decides and emits.

Money moves in three steps: commit the intent, ask the bank under the intent's key
(`bank_requests`, with no transaction open), record the answer. After a crash between two steps,
run all of them again. A step that was done before changes nothing.
"""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils import timezone

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
from shared.money import Money

BANK = "the bank's answer"
CANCELLATION = "orders.OrderCancelled"
#: The status of a payment after a cancellation, in place of a request that the bank never got.
INSTEAD = {Status.INTENDED: Status.FORESTALLED, Status.CAPTURING: Status.VOIDING}


class UnableToCapture(Exception):
    """The order has no authorized payment, so nothing can be captured."""


class OtherAmount(Exception):
    """The bank's answer is about another amount or currency than our request.

    A retry gets the same answer, since the bank repeats it for the same idempotency key. So `step`
    names what staff can do instead.
    """

    def __init__(self, payment: Payment, *, answered: Money, wanted: Money, step: str) -> None:
        super().__init__(
            f"The bank's answer for order {payment.order_id} is about {answered.format()}, but "
            f"{wanted.format()} was requested. Nothing was recorded. Compare the order with the "
            f"bank's statement. {step}"
        )


_CANCEL = (
    "Cancel the order: then all that the bank holds is voided. If the bank corrects the amount "
    "before, its webhook is recorded."
)
_REFUND = (
    "Cancel the order: then the captured amount is refunded. If the bank corrects the amount "
    "before, its webhook is recorded. Money in another currency is not refunded: return it at the "
    "bank, then discard this delivery, and that of payments.void_or_refund, which fails for the "
    "same reason. `manage.py reconcile` lists the payment from then on."
)
_REPAY = (
    "Repay the customer the difference in another way, then discard this delivery. `manage.py "
    "reconcile` lists the refund from then on."
)


@transaction.atomic(durable=True)
def intend_payment(
    *, order_id: UUID, total: Money, payment_method: str, correlation_id: UUID | None = None
) -> Payment:
    """Commit the intent to pay for the order, unless it was cancelled before.

    Args:
        correlation_id: of the event that is handled. A webhook about this request gets it.
    """
    payment = Payment.locked(order_id)
    if payment.status == NEW:
        payment.amount, payment.currency = total.amount, total.currency
        payment.payment_method = payment_method
        payment.move_to(Status.INTENDED, cause="orders.OrderPlaced", correlation_id=correlation_id)
    return payment


@transaction.atomic
def record_authorization(*, order_id: UUID, answer: Authorization | None) -> None:
    """Record that the bank holds the money, or that it declined.

    Raises:
        OtherAmount: the bank holds another amount.
    """
    if answer is None:
        return
    payment = Payment.locked(order_id)
    if payment.status != Status.INTENDED:
        return
    # Of a cancelled order, whatever the bank holds is voided.
    if not answer.is_declined and not payment.cancelled_at:
        _require_amount(payment, answered=answer.amount, wanted=payment.total, step=_CANCEL)
    payment.authorization_id = answer.authorization_id
    if answer.is_declined:
        payment.declined_reason = answer.declined_reason
        payment.move_to(Status.DECLINED, cause=BANK)
        _emit_unless_cancelled(
            payment, PaymentDeclined(order_id=order_id, reason=answer.declined_reason)
        )
    else:
        payment.move_to(Status.AUTHORIZED, cause=BANK)
        _emit_unless_cancelled(payment, PaymentAuthorized(order_id=order_id, amount=payment.total))


@transaction.atomic(durable=True)
def intend_capture(*, order_id: UUID, correlation_id: UUID | None = None) -> Payment:
    """Commit the intent to capture the money, unless the order was cancelled.

    Args:
        correlation_id: as that of `intend_payment`.

    Raises:
        UnableToCapture: the bank was not asked yet, or it declined.
    """
    payment = Payment.locked(order_id)
    if payment.cancelled_at or _was_declined_at_capture(payment):
        return payment
    if payment.status in {NEW, Status.INTENDED, Status.DECLINED}:
        raise UnableToCapture(f"{order_id}: {UnableToCapture.__doc__}")
    if payment.status == Status.AUTHORIZED:
        payment.move_to(
            Status.CAPTURING, cause="orders.OrderConfirmed", correlation_id=correlation_id
        )
    return payment


@transaction.atomic(durable=True)
def record_bank_request(*, order_id: UUID) -> None:
    """Commit that the bank is about to be asked under a key that it may have forgotten."""
    payment = Payment.locked(order_id)
    payment.asked_at = timezone.now()
    payment.save(update_fields=["asked_at"])


@transaction.atomic(durable=True)
def may_still_request(*, order_id: UUID, status: Status) -> bool:
    """Return whether to make a request that the bank never got, as a look-up has shown.

    A request of a cancelled order is never made. If the payment still waits for its answer, it
    moves on without: to forestalled, or to the void of what the bank holds.

    Args:
        status: of the payment when it was looked up.
    """
    payment = Payment.locked(order_id)
    if payment.status != status:
        return False
    if payment.cancelled_at:
        payment.move_to(INSTEAD[status], cause=CANCELLATION)
        return False
    payment.asked_at = timezone.now()  # a cancellation waits for this request from now on
    payment.save(update_fields=["asked_at"])
    return True


@transaction.atomic
def record_capture(*, order_id: UUID, answer: Capture | None) -> None:
    """Record that the bank captured the money, or that it declined after all.

    Of a cancelled order, another captured amount becomes that of the payment, and is refunded.

    Raises:
        OtherAmount: the bank captured another amount, and it will not be refunded.
    """
    if answer is None:
        return
    payment = Payment.locked(order_id)
    if payment.status != Status.CAPTURING:
        return
    if answer.is_declined:
        payment.declined_reason = answer.declined_reason
        payment.move_to(Status.DECLINED, cause=BANK)
        _emit_unless_cancelled(
            payment, PaymentDeclined(order_id=order_id, reason=answer.declined_reason)
        )
        return
    cause = _accept_captured(payment, answer.amount)
    payment.capture_id = answer.capture_id
    payment.move_to(Status.CAPTURED, cause=cause)
    _emit_unless_cancelled(payment, PaymentCaptured(order_id=order_id, amount=payment.total))


@transaction.atomic(durable=True)
def intend_reversal(*, order_id: UUID, correlation_id: UUID | None = None) -> Payment:
    """Commit the intent to void or refund the money, as far as its state is known.

    If the bank was not asked yet, prevent any request. If an answer is missing, store the
    cancellation; the caller records the answer, then calls this again.

    Args:
        correlation_id: as that of `intend_payment`.
    """
    payment = Payment.locked(order_id)
    payment.cancelled_at = payment.cancelled_at or timezone.now()
    way_back = {NEW: Status.FORESTALLED, Status.AUTHORIZED: Status.VOIDING}
    if payment.status in way_back:
        payment.move_to(way_back[payment.status], cause=CANCELLATION, correlation_id=correlation_id)
    elif payment.status == Status.CAPTURED and payment.left.amount:
        _intend(
            payment,
            refund_id=payment.id,
            amount=payment.left,
            cause=CANCELLATION,
            correlation_id=correlation_id,
        )
        payment.move_to(Status.REFUNDING, cause=CANCELLATION, correlation_id=correlation_id)
    elif payment.status == Status.VOIDING:  # perhaps by `may_still_request`, which knows no id
        moves = payment.history.filter(to_status=Status.VOIDING, correlation_id=None)
        moves.update(correlation_id=correlation_id)
    else:
        payment.save(update_fields=["cancelled_at"])
    return payment


@transaction.atomic
def record_void(*, order_id: UUID, answer: Void | None) -> None:
    """Record that the bank holds nothing for the order any more."""
    if answer is None:
        return
    payment = Payment.locked(order_id)
    if payment.status != Status.VOIDING:
        return
    payment.void_id = answer.void_id
    payment.move_to(Status.VOIDED, cause=BANK)
    emit(PaymentVoided(order_id=order_id, amount=payment.total))


class UnableToRefund(Exception):
    """The captured amount of the order does not cover this refund."""


@transaction.atomic(durable=True)
def intend_refund(
    *, order_id: UUID, refund_id: UUID, amount: Money, correlation_id: UUID | None = None
) -> Refund | None:
    """Commit the intent to refund this amount. Return None if a cancellation refunds all of it.

    Args:
        correlation_id: as that of `intend_payment`.

    Raises:
        UnableToRefund: nothing was captured, or other refunds leave less.
    """
    payment = Payment.locked(order_id)
    known = payment.refunds.filter(pk=refund_id).first()
    if known or payment.cancelled_at:
        return known
    if payment.status not in MONEY_WAS_TAKEN or (payment.left - amount).amount < 0:
        raise UnableToRefund(f"{order_id}: {UnableToRefund.__doc__}")
    return _intend(
        payment,
        refund_id=refund_id,
        amount=amount,
        cause="orders.RefundRequested",
        correlation_id=correlation_id,
    )


@transaction.atomic
def record_refund(*, order_id: UUID, refund_id: UUID, answer: RefundAnswer | None) -> None:
    """Record that the bank refunded the money.

    Raises:
        OtherAmount: the bank refunded another amount.
    """
    if answer is None:
        return
    payment = Payment.locked(order_id)
    refund = payment.refunds.get(pk=refund_id)
    if refund.status != Refund.Status.INTENDED:
        return
    _require_amount(payment, answered=answer.amount, wanted=refund.total, step=_REPAY)
    refund.bank_id = answer.refund_id
    refund.move_to(Refund.Status.REFUNDED, cause=BANK)
    if payment.is_given_back:
        payment.move_to(Status.REFUNDED, cause=BANK)
    emit(PaymentRefunded(order_id=order_id, amount=refund.total, refund_id=refund_id))


def _accept_captured(payment: Payment, captured: Money) -> str:
    """Return the cause of the move. Of a cancelled order, store the captured amount."""
    total = payment.total
    can_be_refunded = captured.amount > 0 and captured.currency == total.currency
    if captured == total or not (payment.cancelled_at and can_be_refunded):
        _require_amount(payment, answered=captured, wanted=total, step=_REFUND)
        return BANK
    payment.amount = captured.amount
    return f"{BANK}: {captured.format()} instead of {total.format()}"


def _require_amount(payment: Payment, *, answered: Money, wanted: Money, step: str) -> None:
    if answered != wanted:
        raise OtherAmount(payment, answered=answered, wanted=wanted, step=step)


def _intend(
    payment: Payment, *, refund_id: UUID, amount: Money, cause: str, correlation_id: UUID | None
) -> Refund:
    payment.refund_amount += amount.amount
    payment.save(update_fields=["refund_amount"])
    refund = Refund(id=refund_id, payment=payment, amount=amount.amount)
    refund.move_to(Refund.Status.INTENDED, cause=cause, correlation_id=correlation_id)
    return refund


def _was_declined_at_capture(payment: Payment) -> bool:
    return (
        payment.status == Status.DECLINED
        and payment.history.filter(to_status=Status.CAPTURING).exists()
    )


def _emit_unless_cancelled(payment: Payment, event: DomainEvent) -> None:
    """Emit the event unless the order was cancelled: the money goes back, so nothing may follow."""
    if not payment.cancelled_at:
        emit(event)
