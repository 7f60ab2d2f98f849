"""Reports that the bank sends by itself: stored with an event, and processed by its handler.

A report may arrive twice, late, before the answer to our own request, or in its place. The effect
is the same: the services that record an answer record it, and a repetition changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from outbox import correlated, emit
from payments import gateway, services
from payments.events import BankReported
from payments.gateway import BankRecord, Report
from payments.gateway import Refund as RefundAnswer
from payments.models import BankReport, Payment, PaymentHistory, Refund, RefundHistory, Status

logger = logging.getLogger(__name__)


def receive(*, body: bytes, headers: Mapping[str, str]) -> None:
    """Store a report of the bank. A report that is stored already changes nothing.

    Raises:
        ReportRefused: the bank did not sign it just now, or it cannot be read.
    """
    bank = gateway.current()
    bank.verify_report(body=body, headers=headers)
    report = bank.read_report(body=body)
    stored = BankReport(
        report_id=report.report_id,
        kind=report.kind,
        reference=report.reference,
        # Stripe's may hold a customer's name and address: without an order nothing reads it.
        body=body.decode() if _order_id(report.reference) else "",
    )
    try:
        _store(stored, report)
    except IntegrityError:
        if not BankReport.objects.filter(report_id=report.report_id).exists():
            raise


@transaction.atomic
def _store(stored: BankReport, report: Report) -> None:
    stored.save()
    order_id = _order_id(report.reference)
    if order_id is None:
        return
    correlation_id = _correlation_of_request(order_id, report)
    if correlation_id:
        logger.info("%s: the event has the correlation id %s.", stored, correlation_id)
    with correlated(correlation_id) if correlation_id else nullcontext():
        emit(BankReported(order_id=order_id, report_id=report.report_id))


def _correlation_of_request(order_id: UUID, report: Report) -> UUID | None:
    """Return the correlation id of the request that the report answers, if it is known."""
    rows: QuerySet[PaymentHistory | RefundHistory]
    if report.refund_keys:
        of_order = Refund.objects.filter(payment__order_id=order_id)
        ours = {refund.key: refund for refund in of_order}
        # The latest refund is the last one.
        keys = [key for key in report.refund_keys if key in ours]
        rows = RefundHistory.objects.filter(
            refund__in=[ours[key] for key in keys[-1:]], to_status=Refund.Status.INTENDED
        )
    else:
        asked = _asked_about(report.found)
        rows = PaymentHistory.objects.filter(payment__order_id=order_id, to_status__in=asked)
    return rows.order_by("-id").values_list("correlation_id", flat=True).first()


def _asked_about(found: BankRecord | None) -> set[Status]:
    """Return the statuses of a payment in which the bank was asked for its latest answer."""
    if found is None:  # the report is about neither a payment nor a refund
        return set()
    if found.void:
        return {Status.VOIDING}
    if found.answer_to_capture:
        return {Status.CAPTURING, Status.INTENDED}
    return {Status.INTENDED}


@transaction.atomic
def process(*, order_id: UUID, report_id: str) -> None:
    """Record a stored report, as far as the payment waits for it, and erase its body.

    A repetition changes nothing.
    """
    report = BankReport.objects.select_for_update().get(report_id=report_id)
    if not report.body:
        return
    contents = gateway.current().read_report(body=report.body.encode())
    # Without a payment, we never asked the bank about this order.
    if Payment.objects.filter(order_id=order_id).exists():
        if contents.found:
            _record(order_id, contents.found)
        _record_refunds(order_id, contents.refunds)
    report.body, report.processed_at = "", timezone.now()
    report.save(update_fields=["body", "processed_at"])


def _record(order_id: UUID, found: BankRecord) -> None:
    payment = Payment.locked(order_id)
    if payment.status == Status.INTENDED:
        services.record_authorization(order_id=order_id, answer=found.authorization)
    elif payment.status == Status.CAPTURING:
        services.record_capture(order_id=order_id, answer=found.answer_to_capture)
    elif payment.status == Status.VOIDING:
        services.record_void(order_id=order_id, answer=found.void)


def _record_refunds(order_id: UUID, done: Iterable[RefundAnswer]) -> None:
    """Record the refunds that we requested; the idempotency key identifies them."""
    ours = {refund.key: refund.pk for refund in Payment.locked(order_id).refunds.all()}
    for refund in done:
        if refund.key in ours:
            services.record_refund(order_id=order_id, refund_id=ours[refund.key], answer=refund)


def _order_id(reference: str) -> UUID | None:
    try:
        return UUID(reference)
    except ValueError:
        return None
