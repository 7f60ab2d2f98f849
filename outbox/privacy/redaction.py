"""Blank a person's data in stored events, and mask it in the failures of their deliveries.

The other fields of an event do not change. Rows of other apps do not change: those apps subscribe
to `outbox.SubjectRedacted`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from django.db import transaction
from django.db.models import QuerySet

from outbox import clock, databases, events
from outbox.context import acting_as
from outbox.contracts import lock as contract_lock
from outbox.deliveries.locks import lock_deliveries
from outbox.deliveries.statements import bound_transaction
from outbox.emission import emit
from outbox.models import Attempt, DelayedEvent, Delivery, Event
from outbox.own_events import SubjectRedacted

from . import subjects
from .cleaning import Cleaner
from .marks import schema_of
from .sensitive import Schema, blank, replaced, sensitive_values

logger = logging.getLogger("outbox.operations")

_Row = TypeVar("_Row", Event, DelayedEvent)

_AT_ONCE = 200
_KEYS_AT_ONCE = 500
#: PostgreSQL ends a step that is idle for so long: its host may be down.
_IDLE_SECONDS = 60.0


@dataclass
class Redaction:
    """The number of events that were blanked, had nothing to blank, or were skipped as owed."""

    blanked: int = 0
    empty: int = 0
    owed: int = 0


def redact(
    *,
    subject: str = "",
    keys: Collection[str] = (),
    by: str,
    reason: str,
    force: bool = False,
    dry_run: bool = False,
    using: str | None = None,
) -> Redaction:
    """Blank the sensitive fields of all stored events about a person, and notify the other apps.

    It works in small transactions. After an interruption it can be repeated. In the failed attempts
    and notes of these events' deliveries it masks the sensitive values, and the values that apps
    declare by `declare_subject`. If a subject is given, it then emits `outbox.SubjectRedacted` for
    the apps that have rows about the person.

    Args:
        subject: the person, as events declare it: "customer:7". Events of the keys that
            `declare_subject` returns for it are included.
        keys: keys of further events, emitted before their class declared a subject.
        by: the person or process that redacts.
        reason: the reason, for the log.
        force: also blank events with owed deliveries; their handlers will read blanks.
        dry_run: count only.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    done = Redaction()
    all_keys = sorted({*keys, *subjects.keys_of(subject)})
    # Read before the event is emitted: afterwards the apps blank the rows with these values.
    values = subjects.values_of(subject)
    for seqs in _slices(Event.objects.using(using), subject, all_keys):
        _redact_some(done, seqs, values, force=force, dry_run=dry_run, using=using)
    # A delayed event is not blanked: cancel it, or redact again after it was emitted.
    for delayed in _chosen(DelayedEvent.objects.using(using), subject, all_keys):
        done.owed += sum(1 for row in delayed.iterator() if blanked(row) != row.payload)
    if not dry_run:
        if subject:
            with transaction.atomic(using=using), acting_as(by):
                emit(SubjectRedacted(subject=subject))
        who = subject or f"{len(keys)} keys"
        logger.info("%s redacted %s (%d events): %s", by, who, done.blanked, reason)
    return done


def blanked(event: Event | DelayedEvent) -> dict[str, object]:
    """Return an event's payload with blanks in its sensitive fields, each of the field's type."""
    payload = dict(event.payload)
    schema = _stored_schema(event)
    return replaced(payload, schema, blank) if schema else payload


def _stored_schema(event: Event | DelayedEvent) -> Schema | None:
    known = events.find(event.name)
    recorded = contract_lock.schema_of(name=event.name, version=event.version)
    if known and (known.event_version == event.version or recorded is None):
        return schema_of(known)
    return recorded


def _chosen(rows: QuerySet[_Row], subject: str, keys: Sequence[str]) -> Iterator[QuerySet[_Row]]:
    """Yield the rows of the subject and then those of the keys, no row twice."""
    if subject:
        yield rows.filter(subject=subject)
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        of_keys = rows.filter(key__in=keys[start : start + _KEYS_AT_ONCE])
        yield of_keys.exclude(subject=subject) if subject else of_keys


def _slices(rows: QuerySet[Event], subject: str, keys: Sequence[str]) -> Iterator[Sequence[int]]:
    for chosen in _chosen(rows, subject, keys):
        in_order, seq = chosen.order_by("seq").values_list("seq", flat=True), 0
        while found := list(in_order.filter(seq__gt=seq)[:_AT_ONCE]):
            yield found
            seq = found[-1]


def _redact_some(
    done: Redaction,
    seqs: Sequence[int],
    values: Sequence[str],
    *,
    force: bool,
    dry_run: bool,
    using: str,
) -> None:
    with transaction.atomic(using=using):
        bound_transaction(_IDLE_SECONDS, using=using)
        rows = Event.objects.using(using).filter(seq__in=seqs).order_by("seq")
        found = list(rows.select_for_update())
        # After the locks: a relay, replay or backfill may have held them, and has committed since.
        states = lock_deliveries([event.seq for event in found], using=using)
        owed = {seq for _id, seq, state in states if state in Delivery.OWED}
        if not dry_run:  # before the events lose their values
            _clean_failures(found, values, using=using)
        for event in found:
            if (payload := blanked(event)) == event.payload:
                done.empty += 1
            elif (event.seq in owed or event.fanned_out_at is None) and not force:
                done.owed += 1
            else:
                done.blanked += 1
                if not dry_run:
                    rows = Event.objects.using(using).filter(pk=event.pk)
                    rows.update(payload=payload, redacted_at=clock.now(using=using))


def _clean_failures(found: Sequence[Event], values: Sequence[str], *, using: str) -> None:
    """Mask the person's data in the attempts and notes of these events' deliveries."""
    cleaners = {event.pk: Cleaner([*map(str, sensitive_values(event)), *values]) for event in found}
    attempts = Attempt.objects.using(using).filter(delivery__event__in=found)
    for attempt in attempts.select_related("delivery"):
        cleaner = cleaners[attempt.delivery.event_id]
        attempt.message = cleaner.clean(attempt.message, longest=len(attempt.message))
        attempt.traceback = cleaner.clean(attempt.traceback, longest=len(attempt.traceback))
        attempt.save(using=using, update_fields=["message", "traceback"])
    deliveries = Delivery.objects.using(using).filter(event__in=found).exclude(note="")
    for pk, event_pk, note in deliveries.values_list("pk", "event_id", "note"):
        cleaned = cleaners[event_pk].clean(note, longest=len(note))
        if cleaned != note:
            Delivery.objects.using(using).filter(pk=pk).update(note=cleaned)
