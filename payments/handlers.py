"""Subscriptions of payments. Each commits an intent, asks the bank, and records the answer."""

from __future__ import annotations

from uuid import UUID

from outbox import Breaker, Receipt, subscribe
from payments import bank_requests, gateway, services, webhooks
from payments.gateway import GatewayUnavailable, OutcomeUnknown
from shared.money import Money

# A handler makes at most five requests; each may wait for the connection and for its answer.
LEASE = 12 * gateway.timeout_seconds()
BREAKER = Breaker(on=(GatewayUnavailable, OutcomeUnknown), failures=10, wait=15, longest=600)


@subscribe(
    "orders.OrderPlaced", atomic=False, queue="payments.gateway", lease=LEASE, breaker=BREAKER
)
def authorize_payment(
    order_id: UUID, total: Money, payment_method: str, receipt: Receipt, correlation_id: UUID
) -> None:
    payment = services.intend_payment(
        order_id=order_id,
        total=total,
        payment_method=payment_method,
        correlation_id=correlation_id,
    )
    answer = bank_requests.authorization(payment)
    with receipt:
        services.record_authorization(order_id=order_id, answer=answer)


@subscribe(
    "orders.OrderConfirmed", atomic=False, queue="payments.gateway", lease=LEASE, breaker=BREAKER
)
def capture_payment(order_id: UUID, receipt: Receipt, correlation_id: UUID) -> None:
    payment = services.intend_capture(order_id=order_id, correlation_id=correlation_id)
    answer = bank_requests.capture(payment)
    with receipt:
        services.record_capture(order_id=order_id, answer=answer)


@subscribe(
    "orders.OrderCancelled",
    atomic=False,
    queue="payments.gateway",
    attempts=None,
    lease=LEASE,
    breaker=BREAKER,
)
def void_or_refund(order_id: UUID, receipt: Receipt, correlation_id: UUID) -> None:
    payment = services.intend_reversal(order_id=order_id, correlation_id=correlation_id)
    # The answer to an earlier request may be lost: request it again, under the same key. If the
    # key is old, the bank is queried instead. A request that it never got is not made any more.
    services.record_authorization(order_id=order_id, answer=bank_requests.authorization(payment))
    services.record_capture(order_id=order_id, answer=bank_requests.capture(payment))
    payment = services.intend_reversal(order_id=order_id, correlation_id=correlation_id)
    void, refund = bank_requests.void(payment), bank_requests.refund(payment.refund_of_cancellation)
    with receipt:
        services.record_void(order_id=order_id, answer=void)
        services.record_refund(order_id=order_id, refund_id=payment.id, answer=refund)


@subscribe(
    "orders.RefundRequested",
    atomic=False,
    queue="payments.gateway",
    attempts=None,
    lease=LEASE,
    breaker=BREAKER,
)
def refund_payment(
    order_id: UUID, refund_id: UUID, amount: Money, receipt: Receipt, correlation_id: UUID
) -> None:
    refund = services.intend_refund(
        order_id=order_id, refund_id=refund_id, amount=amount, correlation_id=correlation_id
    )
    answer = bank_requests.refund(refund)
    with receipt:
        services.record_refund(order_id=order_id, refund_id=refund_id, answer=answer)


@subscribe("payments.BankReported")
def record_bank_report(order_id: UUID, report_id: str) -> None:
    webhooks.process(order_id=order_id, report_id=report_id)
