"""Invariants of the money: within our tables, and compared with the bank."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db.models import F, Model, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext as _

from outbox.reconciliation import (
    Difference,
    Examination,
    duplicate_event_keys,
    events_without_row,
    invariant,
    rows_without_event,
)
from payments import gateway, statements
from payments.gateway import BankRecord, GatewayRefused, GatewayUnavailable, OutcomeUnknown
from payments.models import Payment, PaymentHistory, Refund, RefundHistory, Status
from shared.money import Money

M = TypeVar("M", bound=Model)

AROUND = (
    "A row was changed without its service. Compare it with the bank's statement, and correct it."
)
EVENT_OF = {
    Status.AUTHORIZED: "payments.PaymentAuthorized",
    Status.DECLINED: "payments.PaymentDeclined",
    Status.CAPTURED: "payments.PaymentCaptured",
    Status.VOIDED: "payments.PaymentVoided",
}
REFUNDED = "payments.PaymentRefunded"
NO_ANSWER = (GatewayUnavailable, OutcomeUnknown, GatewayRefused)
MAX_UNANSWERED = 3
# Of the bank's answers after a cancellation, only the void is emitted. The clocks of two workers
# may disagree about the order.
CLOCKS = timedelta(minutes=1)


@invariant(remedy=AROUND)
def statuses_match_histories(examination: Examination) -> Iterator[Difference]:
    """The status of a payment or refund is the last status in its history."""
    examination.count_rows(Payment.objects.count() + Refund.objects.count())
    moves = PaymentHistory.objects.filter(payment=OuterRef("pk"))
    for payment in _elsewhere(Payment.objects.all(), moves):
        facts = {"order": payment.order_id, "status": payment.status, "last": payment.last}
        text = _(
            "The payment of order %(order)s is %(status)s, but its history ends with %(last)s."
        )
        yield _about(payment, text % facts)
    moves_of_refund = RefundHistory.objects.filter(refund=OuterRef("pk"))
    for refund in _elsewhere(Refund.objects.select_related("payment"), moves_of_refund):
        facts = {"order": refund.payment.order_id, "status": refund.status, "last": refund.last}
        text = _("A refund of order %(order)s is %(status)s, but its history ends with %(last)s.")
        yield _about(refund.payment, text % facts)


@invariant(remedy=AROUND)
def status_changes_match_events(examination: Examination) -> Iterator[Difference]:
    """Each answer of the bank has exactly one event, and each event an answer."""
    moves = examination.recent(PaymentHistory.objects.select_related("payment"), "moved_at")
    examination.count_rows(moves.count())
    for status, name in EVENT_OF.items():
        to_it = moves.filter(to_status=status).filter(_is_emitted(status))
        for move in rows_without_event(to_it, name, key="payment__order_id").iterator():
            facts = {"order": move.payment.order_id, "status": status, "name": name}
            text = _(
                "The payment of order %(order)s is %(status)s, but there is no event %(name)s."
            )
            yield _about(move.payment, text % facts)
        rows = PaymentHistory.objects.filter(to_status=status)
        for event in events_without_row(name, rows, key="payment__order_id").iterator():
            facts = {"name": name, "key": event.key}
            text = _("There is an event %(name)s of order %(key)s, but no such status change.")
            yield Difference(text % facts, key=event.key, row=event)
        for key in duplicate_event_keys(name).iterator():
            text = _("There are several events %(name)s of order %(key)s.")
            yield Difference(text % {"name": name, "key": key}, key=key)


@invariant(remedy=AROUND)
def refunds_match_events(examination: Examination) -> Iterator[Difference]:
    """Each refund by the bank has its event, and each event its refund."""
    done = Refund.objects.filter(status=Refund.Status.REFUNDED).select_related("payment")
    examination.count_rows(done.count())
    columns = {"key": "payment__order_id", "refund_id": "id"}
    for refund in rows_without_event(
        examination.recent(done, "moved_at"), REFUNDED, **columns
    ).iterator():
        facts = {"order": refund.payment.order_id, "amount": refund.total.format()}
        text = _("%(amount)s were refunded for order %(order)s, but there is no event.")
        yield _about(refund.payment, text % facts)
    for event in events_without_row(REFUNDED, done, **columns).iterator():
        text = _("There is an event %(name)s of order %(key)s, but no such refund.")
        yield Difference(text % {"name": REFUNDED, "key": event.key}, key=event.key, row=event)


@invariant(remedy=AROUND)
def refund_totals_match_refunds(examination: Examination) -> Iterator[Difference]:
    """A payment's refund amount is the sum of its refunds, and at most the captured amount."""
    examination.count_rows(Payment.objects.count())
    sums = Refund.objects.filter(payment=OuterRef("pk")).order_by().values("payment")
    payments: QuerySet[Any] = Payment.objects.annotate(
        of_refunds=Coalesce(Subquery(sums.annotate(sum=Sum("amount")).values("sum")), 0)
    )
    wrong = payments.exclude(Q(refund_amount=F("of_refunds")) & _is_within_captured())
    for payment in wrong.order_by("pk").iterator():
        facts = {"order": payment.order_id, "noted": _money(payment, payment.refund_amount)}
        facts["sum"] = _money(payment, payment.of_refunds)
        text = _("Order %(order)s: the refund amount is %(noted)s, but the refunds sum to %(sum)s.")
        yield _about(payment, text % facts)


@invariant(
    waits_for=("payments",),
    remedy="Check the bank's statement, and retry the delivery that asks the bank.",
)
def unknown_outcomes_have_owed_deliveries(examination: Examination) -> Iterator[Difference]:
    """A payment without the bank's answer has an owed delivery."""
    asked = Payment.objects.filter(
        Q(status__in=Payment.AWAIT_BANK) | Q(refunds__status=Refund.Status.INTENDED)
    ).distinct()
    examination.count_rows(asked.count())
    for payment in asked.order_by("pk").iterator():
        facts = {"order": payment.order_id, "status": payment.get_status_display()}
        text = _(
            "The payment of order %(order)s is %(status)s without the bank's answer, but no "
            "delivery is owed."
        )
        yield _about(payment, text % facts)


@invariant(
    outside=True,
    remedy="Compare with the bank's statement, and correct the difference there by hand.",
)
def bank_matches_payments(examination: Examination) -> Iterator[Difference]:
    """The bank has the same authorized, captured and refunded amounts as our tables."""
    bank, unanswered, problem = gateway.current(), 0, ""
    for payment in statements.to_compare(everything=examination.thorough):
        try:
            found = bank.find(reference=str(payment.order_id))
        except NO_ANSWER as error:
            unanswered, problem = unanswered + 1, str(error)
            if unanswered == MAX_UNANSWERED:
                break
            continue
        examination.count_rows(1)
        yield from _compare(payment, found, not_before=timezone.now() - bank.processing_time)
    if unanswered:
        text = _("The bank did not answer for each payment (%(problem)s). Run the command again.")
        yield Difference(text % {"problem": problem})


def _compare(
    payment: Payment, found: BankRecord | None, *, not_before: datetime
) -> Iterator[Difference]:
    mine, theirs = statements.statement_of_shop(payment), statements.statement_of_bank(found)
    is_young = found is None and payment.moved_at > not_before  # `find` may lag behind
    if mine == theirs or is_young or not statements.is_unchanged(payment):
        return
    facts = {"order": payment.order_id, "mine": mine, "theirs": theirs}
    text = _("Order %(order)s: the bank has %(theirs)s, our tables have %(mine)s.")
    yield _about(payment, text % facts)


def _about(payment: Payment, text: str) -> Difference:
    return Difference(text, key=str(payment.order_id), row=payment)


def _money(payment: Payment, amount: int) -> str:
    if not payment.currency:  # forestalled: any amount is wrong, and shown without a currency
        return str(amount)
    return Money(amount=amount, currency=payment.currency).format()


def _elsewhere(rows: QuerySet[M], moves: QuerySet[Any]) -> Iterator[Any]:
    latest = Subquery(moves.order_by("-id").values("to_status")[:1])
    found = rows.annotate(last=Coalesce(latest, Value("")))
    return found.exclude(status=F("last")).order_by("pk").iterator()


def _is_emitted(status: Status) -> Q:
    if status == Status.VOIDED:
        return Q()
    before = Q(moved_at__lt=F("payment__cancelled_at") - CLOCKS)
    return Q(payment__cancelled_at=None) | before


def _is_within_captured() -> Q:
    return Q(refund_amount=0) | (Q(refund_amount__lte=F("amount")) & ~Q(capture_id=""))
