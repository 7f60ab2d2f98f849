"""Report received events as settled: emit `outbox.Settled` once all their deliveries are.

The relay checks the deliveries of an event after they were committed. So two deliveries of one
event that are done at the same moment need no lock of each other, and the last one is not missed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connections, transaction
from django.db.models import Exists, OuterRef

from outbox import clock, emission
from outbox.context import Cause, caused_by
from outbox.deliveries import failpoints
from outbox.deliveries.key_locks import lock_keys
from outbox.deliveries.statements import bound_transaction
from outbox.ids import uuid7
from outbox.models import Delivery, Event, Received, SettlementReport
from outbox.transports.nudge import nudge_of

from .events import LONGEST_ID, Settled

logger = logging.getLogger("outbox.settlements")

#: Events of one transaction.
_PAGE = 200
#: Wait before the next check of an event, as a part of its age, and the limits of the wait.
_PART_OF_AGE = 0.25
_SHORTEST, _LONGEST = timedelta(seconds=0.5), timedelta(seconds=60)
#: PostgreSQL ends the transaction of a process that is idle for so many seconds.
_IDLE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A received message whose settlement is reported.

    Attributes:
        external_id: identity of the message within the source.
        reported_id: the event's id in the other system.
        event: id of the event that was stored for it; None: it was dropped.
        replay: number of the replay that brought it, or 0.
    """

    external_id: str
    reported_id: str
    event: UUID | None
    replay: int = 0


def expect_reports(expected: Iterable[Expected], *, source: str, consumer: str, using: str) -> None:
    """Report these messages once their events are settled, in the caller's transaction.

    A message that was stored as received, and is read later, has its report moved to the event that
    it becomes. A message that was reported is not reported again.

    Args:
        expected: the messages.
        source: the source that received them.
        consumer: the source's `SETTLES_AS`.
        using: the outbox's database alias.
    """
    now = clock.now(using=using)
    rows = [
        SettlementReport(
            source=source,
            external_id=one.external_id,
            reported_id=one.reported_id,
            consumer=consumer,
            event=one.event,
            expected_at=now,
            check_at=now,
            replay=one.replay,
        )
        for one in expected
        if _is_reportable(one, source)
    ]
    SettlementReport.objects.using(using).bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["source", "external_id"],
        update_fields=["event", "check_at"],
    )


def report_again(duplicates: Iterable[Expected], *, source: str, consumer: str, using: str) -> None:
    """Report duplicates once more whose sender has requested a replay, as a report may be lost.

    A message that was received before the source had `SETTLES_AS`, or whose report was pruned with
    its event, has none yet. It gets one now.

    Args:
        duplicates: the messages; `event` is not used.
        source: the source that received them.
        consumer: the source's `SETTLES_AS`.
        using: the outbox's database alias.
    """
    requested: dict[str, Expected] = {}
    for one in sorted(duplicates, key=lambda one: one.replay):
        if one.replay:
            requested[one.external_id] = one  # the last replay of a message
    rows = SettlementReport.objects.using(using).filter(source=source)
    known = rows.filter(external_id__in=list(requested)).values_list("external_id", flat=True)
    missing = set(requested) - set(known)
    for external_id, one in requested.items():
        mine = rows.filter(external_id=external_id, replay__lt=one.replay)
        mine.update(replay=one.replay, reported_at=None, check_at=clock.now(using=using))
    if not missing:
        return
    received = Received.objects.using(using).filter(source=source, external_id__in=missing)
    # Locked, so that a handler that reads a stored message again does not move the event meanwhile.
    locked = received.order_by("external_id").select_for_update()
    found = locked.values_list("external_id", "event")
    late = [replace(requested[external_id], event=event) for external_id, event in found]
    expect_reports(late, source=source, consumer=consumer, using=using)


def _is_reportable(one: Expected, source: str) -> bool:
    if 0 < len(one.reported_id) <= LONGEST_ID:
        return True
    logger.warning(
        "%s: %s has an id of %d characters. It cannot be reported as settled; the id needs 1 to "
        "%d.",
        source,
        one.external_id,
        len(one.reported_id),
        LONGEST_ID,
    )
    return False


def report(*, using: str) -> bool:
    """Emit `outbox.Settled` for a page of events in one transaction.

    Return whether the page was full, so more events may be due.
    """
    now = clock.now(using=using)
    waiting = SettlementReport.objects.using(using).filter(reported_at=None)
    with transaction.atomic(using=using):
        bound_transaction(_IDLE_SECONDS, using=using)
        due = waiting.filter(check_at__lte=now).order_by("check_at")
        rows = list(due.select_for_update(skip_locked=True)[:_PAGE])
        owed = _owed({row.event for row in rows if row.event is not None}, using=using)
        settled = [row for row in rows if row.event not in owed]
        _check_later([row for row in rows if row.event in owed], now=now, using=using)
        _emit(settled, using=using)
        _mark(settled, now=now, using=using)
        failpoints.reach(failpoints.BEFORE_REPORT)
        if settled:
            transaction.on_commit(nudge_of(using), using=using, robust=True)
    return len(rows) == _PAGE


def _owed(ids: Iterable[UUID], *, using: str) -> set[UUID]:
    """Return the events that have an owed delivery, or wait for fan-out, or whose correction does.

    The events are read before their corrections: one commit discards the dead delivery of an event
    and stores the corrected event.
    """
    origin = {one: one for one in ids}  # of each correction, the event
    found: set[UUID] = set()
    while origin:
        events = Event.objects.using(using)
        deliveries = Delivery.objects.using(using).filter(state__in=Delivery.OWED)
        rows = events.filter(id__in=list(origin)).annotate(
            is_owed=Exists(deliveries.filter(event=OuterRef("pk")))
        )
        for id, fanned_out_at, is_owed in rows.values_list("id", "fanned_out_at", "is_owed"):
            if is_owed or fanned_out_at is None:
                found.add(origin[id])
        corrections = events.filter(corrects__in=list(origin)).values_list("id", "corrects")
        origin = {id: origin[corrected] for id, corrected in corrections if corrected}
    return found


def _check_later(rows: Sequence[SettlementReport], *, now: datetime, using: str) -> None:
    for row in rows:
        wait = (now - row.expected_at) * _PART_OF_AGE
        row.check_at = now + min(max(wait, _SHORTEST), _LONGEST)
    SettlementReport.objects.using(using).bulk_update(rows, ["check_at"])


def _emit(rows: Sequence[SettlementReport], *, using: str) -> None:
    lock_keys({row.reported_id for row in rows}, connection=connections[using])
    events = Event.objects.using(using).filter(id__in=[row.event for row in rows if row.event])
    values = events.values_list("id", "correlation_id", "tenant")
    found = {id: (correlation, tenant) for id, correlation, tenant in values}
    for row in rows:
        known, tenant = found.get(row.event, (None, None)) if row.event else (None, None)
        cause = Cause(
            correlation_id=known or uuid7(),
            causation_id=row.event if known else None,
            actor=f"source:{row.source}",
        )
        with caused_by(cause):
            fact = Settled(event=row.reported_id, consumer=row.consumer)
            emission.store(fact, using=using, tenant=tenant)


def _mark(rows: Sequence[SettlementReport], *, now: datetime, using: str) -> None:
    reports = SettlementReport.objects.using(using)
    reports.filter(pk__in=[row.pk for row in rows]).update(reported_at=now)
