"""Our record of a payment and the bank's, and the choice of payments to compare."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from django.db.models import QuerySet, Sum
from django.utils.translation import gettext as _

from payments.gateway import BankRecord
from payments.models import MONEY_WAS_TAKEN, NEW, Payment, Refund, Status
from shared.money import Money

#: Without `everything`: the latest payments, and a run of older ones from a random place.
LATEST, SOME = 200, 50
PAGE = 500


@dataclass(frozen=True, kw_only=True)
class Statement:
    """The amounts on one side, in minor units, and the bank's id of the held or captured money."""

    held: int = 0
    taken: int = 0
    given_back: int = 0
    currency: str = ""
    under: str = ""

    def __str__(self) -> str:
        amounts = {
            _("authorized"): self.held,
            _("captured"): self.taken,
            _("refunded"): self.given_back,
        }
        shown = [
            f"{Money(amount=amount, currency=self.currency).format()} {what}"
            for what, amount in amounts.items()
            if amount
        ]
        return f"{', '.join(shown)} ({self.under})" if shown else _("nothing")


def statement_of_shop(payment: Payment) -> Statement:
    amount = payment.amount or 0
    if payment.status == Status.AUTHORIZED:
        return Statement(held=amount, currency=payment.currency, under=payment.authorization_id)
    if payment.status not in MONEY_WAS_TAKEN:
        return Statement()
    done = payment.refunds.filter(status=Refund.Status.REFUNDED)
    given_back = done.aggregate(sum=Sum("amount"))["sum"] or 0
    return Statement(
        taken=amount, given_back=given_back, currency=payment.currency, under=payment.capture_id
    )


def statement_of_bank(found: BankRecord | None) -> Statement:
    if found is None or found.authorization.is_declined or found.void:
        return Statement()
    if found.capture is None:
        held = found.authorization.amount
        under = found.authorization.authorization_id
        return Statement(held=held.amount, currency=held.currency, under=under)
    return Statement(
        taken=found.capture.amount.amount,
        given_back=sum(one.amount.amount for one in found.refunds),
        currency=found.capture.amount.currency,
        under=found.capture.capture_id,
    )


def to_compare(*, everything: bool) -> Iterator[Payment]:
    """Yield the payments with a known outcome, page by page, with no transaction open."""
    if everything:
        yield from _pages(_at_rest())
        return
    latest = list(_at_rest().order_by("-pk")[:LATEST])
    yield from latest
    first = _at_rest().order_by("pk").first()
    if first and first.pk < latest[-1].pk:
        place = UUID(int=random.randint(first.pk.int, latest[-1].pk.int))
        yield from _at_rest().filter(pk__gte=place, pk__lt=latest[-1].pk).order_by("pk")[:SOME]


def is_unchanged(payment: Payment) -> bool:
    """Return whether it is as it was read. Each change is committed before the bank is asked."""
    columns = ("status", "moved_at", "refund_amount")
    now = _at_rest().filter(pk=payment.pk).values_list(*columns).first()
    return now == tuple(getattr(payment, column) for column in columns)


def _at_rest() -> QuerySet[Payment]:
    payments = Payment.objects.exclude(status__in=[NEW, *Payment.AWAIT_BANK])
    return payments.exclude(refunds__status=Refund.Status.INTENDED)


def _pages(payments: QuerySet[Payment]) -> Iterator[Payment]:
    page = list(payments.order_by("pk")[:PAGE])
    while page:
        yield from page
        page = list(payments.filter(pk__gt=page[-1].pk).order_by("pk")[:PAGE])
