"""Requests to the bank for what a payment intends, made with no transaction open.

Each function returns None if the payment does not wait for that answer: the answer is stored
already, or the order was cancelled before the bank got the request.
"""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from outbox import NotCalled
from payments import gateway, services
from payments.gateway import (
    Authorization,
    BankRecord,
    Capture,
    Gateway,
    GatewayRefused,
    RefundPending,
    Void,
)
from payments.gateway import Refund as RefundAnswer
from payments.models import Payment, Refund, Status

#: So many refunds under one key may fail. The cause of a third failure would be the same.
MAX_FAILED_REFUNDS = 2


def authorization(payment: Payment) -> Authorization | None:
    if payment.status != Status.INTENDED:
        return None
    bank = gateway.current()
    if _is_key_old(bank, payment):
        if found := _find(bank, payment):
            return found.authorization
        if not services.may_still_request(order_id=payment.order_id, status=Status.INTENDED):
            return None
    return bank.authorize(
        reference=_reference(payment),
        amount=payment.total,
        payment_method=payment.payment_method,
        idempotency_key=payment.authorize_key,
    )


def capture(payment: Payment) -> Capture | None:
    if payment.status != Status.CAPTURING:
        return None
    bank = gateway.current()
    if _is_key_old(bank, payment):
        found = _find(bank, payment)
        if found and (answer := found.answer_to_capture):
            return answer
        if not services.may_still_request(order_id=payment.order_id, status=Status.CAPTURING):
            return None
    return bank.capture(
        authorization_id=payment.authorization_id,
        amount=payment.total,
        idempotency_key=payment.capture_key,
    )


def void(payment: Payment) -> Void | None:
    if payment.status != Status.VOIDING:
        return None
    bank = gateway.current()
    found = _find(bank, payment) if _is_key_old(bank, payment) else None
    if found and found.void:
        return found.void
    return bank.void(authorization_id=payment.authorization_id, idempotency_key=payment.void_key)


def refund(refund: Refund | None) -> RefundAnswer | None:
    if refund is None or refund.status != Refund.Status.INTENDED:
        return None
    bank, payment = gateway.current(), refund.payment
    is_key_old = _is_key_old(bank, payment, since=refund.moved_at)
    found = _find(bank, payment) if is_key_old else None
    if found and (done := next((one for one in found.refunds if one.key == refund.key), None)):
        return done
    if found and refund.key in found.pending:
        raise RefundPending(f"The bank has not made the refund {refund.key} yet.")
    if found and found.failed.count(refund.key) >= MAX_FAILED_REFUNDS:
        text = (
            f"The bank could not make the refund {refund.key} twice. It is not requested again. "
            "Repay the customer in another way, then discard this delivery."
        )
        raise GatewayRefused("refund_failed_twice", text)
    return bank.refund(
        reference=_reference(payment),
        capture_id=payment.capture_id,
        amount=refund.total,
        idempotency_key=refund.key,
    )


def _is_key_old(bank: Gateway, payment: Payment, *, since: datetime | None = None) -> bool:
    """Return whether our key is so old that the bank may have forgotten it. Then look first.

    The payment entered its status before the first request, so the key is younger than that. Half
    of the key's life is a margin for differences between clocks.

    Raises:
        NotCalled: the bank may still be processing a request, so a look-up would not be final.
    """
    key_is_old_at = (since or payment.moved_at) + bank.key_life / 2
    if timezone.now() < key_is_old_at:
        return False
    # A request that is not found will never take effect only if none is still being processed.
    last_asked_at = max(payment.asked_at or key_is_old_at, key_is_old_at)
    if timezone.now() < last_asked_at + bank.processing_time:
        # Not `OutcomeUnknown`: nothing is asked now, so it must not count against the bank.
        raise NotCalled(
            "The bank may still be processing an earlier request.",
            retry_after=last_asked_at + bank.processing_time - timezone.now(),
        )
    return True


def _find(bank: Gateway, payment: Payment) -> BankRecord | None:
    services.record_bank_request(order_id=payment.order_id)
    return bank.find(reference=_reference(payment))


def _reference(payment: Payment) -> str:
    return str(payment.order_id)
