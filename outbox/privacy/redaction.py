"""Blank a person's data in stored events. The event stays, and so does all else that it says.

Other rows that hold the person's data are their apps': they hear `outbox.SubjectRedacted`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q, QuerySet

from outbox import clock, databases, events
from outbox.context import acting_as
from outbox.contracts import lock as contract_lock
from outbox.emission import emit
from outbox.engine.locks import lock_deliveries
from outbox.engine.statements import bound_transaction
from outbox.models import Attempt, DelayedEvent, Delivery, Event
from outbox.own_events import SubjectRedacted

from .marks import schema_of
from .sensitive import Schema, blank, masked_text, replaced

logger = logging.getLogger("outbox.actions")

_AT_ONCE = 200
#: A step whose process does nothing for so long is ended by PostgreSQL: its host may be gone.
_IDLE_SECONDS = 60.0


@dataclass
class Redaction:
    """How many events were blanked, had nothing to blank, and are owed and were left alone."""

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
    """Blank the sensitive fields of all stored events about a person, and tell the other apps.

    In small transactions; stopped or repeated, it goes on where it was. What quotes the blanked
    values in failed attempts is masked. Then `outbox.SubjectRedacted` is emitted, if a subject is
    given, for the apps that keep the person's data in rows of their own.

    Args:
        subject: who, as the events declare it: "customer:7".
        keys: keys of further events to blank, told before their class declared a subject.
        by: who wants it.
        reason: why, for the log.
        force: blank events too of which something is owed: their handlers read blanks.
        dry_run: count only.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    done = Redaction()
    for seqs in _slices(_about(subject, keys, using=using)):
        _redact_some(done, seqs, force=force, dry_run=dry_run, using=using)
    # What is told later is owed as a whole: take it back, or run this again when it was told.
    delayed = DelayedEvent.objects.using(using).filter(_of(subject, keys))
    done.owed += delayed.count()
    if not dry_run:
        if subject:
            with transaction.atomic(using=using), acting_as(by):
                emit(SubjectRedacted(subject=subject))
        who = subject or f"{len(keys)} keys"
        logger.info("%s redacted %s (%d events): %s", by, who, done.blanked, reason)
    return done


def blanked(event: Event) -> dict[str, object]:
    """Return an event's payload with blanks in its sensitive fields, each of the field's type."""
    payload = dict(event.payload)
    schema = _stored_schema(event)
    return replaced(payload, schema, blank) if schema else payload


def _stored_schema(event: Event) -> Schema | None:
    known = events.find(event.name)
    recorded = contract_lock.schema_of(name=event.name, version=event.version)
    if known and (known.event_version == event.version or recorded is None):
        return schema_of(known)
    return recorded


def _about(subject: str, keys: Collection[str], *, using: str) -> QuerySet[Event]:
    return Event.objects.using(using).filter(_of(subject, keys))


def _of(subject: str, keys: Collection[str]) -> Q:
    chosen = Q(key__in=keys)
    return chosen | Q(subject=subject) if subject else chosen


def _slices(rows: QuerySet[Event]) -> Iterator[Sequence[int]]:
    seq = 0
    while found := list(
        rows.filter(seq__gt=seq).order_by("seq").values_list("seq", flat=True)[:_AT_ONCE]
    ):
        yield found
        seq = found[-1]


def _redact_some(
    done: Redaction, seqs: Sequence[int], *, force: bool, dry_run: bool, using: str
) -> None:
    with transaction.atomic(using=using):
        bound_transaction(_IDLE_SECONDS, using=using)
        rows = Event.objects.using(using).filter(seq__in=seqs).order_by("seq")
        found = list(rows.select_for_update())
        # Only now: a relay, replay or backfill may have held these locks, and has committed since.
        states = lock_deliveries([event.seq for event in found], using=using)
        owed = {seq for _id, seq, state in states if state in Delivery.OWED}
        for event in found:
            if (event.seq in owed or event.fanned_out_at is None) and not force:
                done.owed += 1
            elif (payload := blanked(event)) == event.payload:
                done.empty += 1
            else:
                done.blanked += 1
                if not dry_run:
                    _blank(event, payload, using=using)


def _blank(event: Event, payload: dict[str, object], *, using: str) -> None:
    """Mask what quotes the values while they are still known, then blank them."""
    for attempt in Attempt.objects.using(using).filter(delivery__event=event):
        attempt.message = masked_text(attempt.message, event)
        attempt.traceback = masked_text(attempt.traceback, event)
        attempt.save(using=using, update_fields=["message", "traceback"])
    for delivery in Delivery.objects.using(using).filter(event=event).exclude(note=""):
        note = masked_text(delivery.note, event)
        Delivery.objects.using(using).filter(pk=delivery.pk).update(note=note[:300])
    rows = Event.objects.using(using).filter(pk=event.pk)
    rows.update(payload=payload, redacted_at=clock.now(using=using))
