"""What is owed that nobody will pay by itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import or_

from django.db.models import Exists, OuterRef, Q, QuerySet

from outbox import clock, events
from outbox.actions import next_step, unfinished
from outbox.models import Delivery, Event, Subscription
from outbox.monitor.status import status
from outbox.subscriptions import find
from outbox.wording import moment, span

from .findings import Finding, error, ok, warning

_PART = "debts"
_LONG = 60.0


def examine(*, using: str) -> Iterator[Finding]:
    """Find what is dead, unknown to this code, ended, or waits for the relay for long."""
    found = [
        *_dead(using=using),
        *_unknown_handlers(using=using),
        *_unknown_events(using=using),
        *_waiting(using=using),
        *_operations(using=using),
    ]
    yield from found or [ok(_PART, "Nothing is owed that waits for a person.")]


def _dead(*, using: str) -> Iterator[Finding]:
    for one in status(using=using).handlers:
        if one.dead:
            is_one = one.dead == 1
            what, are = ("1 delivery", "is") if is_one else (f"{one.dead:,} deliveries", "are")
            yield warning(
                _PART,
                f"{what} to {one.handler} {are} dead.",
                "`manage.py outbox groups` says of what, and how to retry them.",
            )


def _unknown_handlers(*, using: str) -> Iterator[Finding]:
    for row in _owed(using=using).order_by("handler"):
        is_unknown = find(row.handler) is None
        if not is_unknown and row.active:
            continue
        what = "this code does not have" if is_unknown else "has ended its subscription"
        yield error(
            _PART,
            f"Deliveries are owed to {row.handler}, which {what}.",
            "Deploy a release that has it, name it in the `formerly=` of its heir, or "
            f"`manage.py outbox end {row.handler}`.",
        )


def _owed(*, using: str) -> QuerySet[Subscription]:
    """Return whom something is owed; looks state by state, as each has an index of its own."""
    mine = Delivery.objects.using(using).filter(subscription=OuterRef("pk"))
    states = [Q(Exists(mine.filter(state=state))) for state in Delivery.OWED]
    return Subscription.objects.using(using).filter(reduce(or_, states))


def _unknown_events(*, using: str) -> Iterator[Finding]:
    for row in _owed(using=using).filter(active=True).order_by("event"):
        if events.find(row.event) is None:
            yield warning(
                _PART,
                f"{row.handler} is owed {row.event}, an event that this code does not declare.",
                "Was its app removed? Its stored events are still delivered as they are.",
            )


def _waiting(*, using: str) -> Iterator[Finding]:
    waiting = Event.objects.using(using).filter(fanned_out_at=None).order_by("seq").first()
    age = clock.now(using=using) - waiting.emitted_at if waiting else None
    if age is not None and age.total_seconds() > _LONG:
        yield error(
            _PART,
            f"An event waits for fan-out for {span(age)}.",
            "The relay does not keep up, or does not run: see its findings.",
        )


def _operations(*, using: str) -> Iterator[Finding]:
    stopped = list(unfinished(using=using))
    handlers = status(using=using).handlers if stopped else ()
    held = {one.backfill: one.handler for one in handlers if one.backfill}
    for operation in stopped:
        handler = held.get(operation.pk, "")
        holds = f" It holds {handler}, which runs nothing until it is complete." if handler else ""
        yield warning(
            _PART,
            f"Operation {operation.pk} ({operation.action} by {operation.by}) stopped half-way; "
            f"its last sign of life was {moment(operation.seen_at)}.{holds}",
            next_step(operation),
        )
