"""Blank a person's data in stored events, and mask it in the failures of their deliveries.

The other fields of an event do not change. Rows of other apps do not change: those apps subscribe
to `outbox.SubjectRedacted`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from outbox import clock, databases, tenants
from outbox.context import acting_as
from outbox.deliveries.locks import lock_deliveries
from outbox.deliveries.statements import bound_transaction
from outbox.emission import emit
from outbox.events import DomainEvent
from outbox.models import Attempt, DelayedEvent, Delivery, Event, Subscription

from . import all_tenants
from .cleaning import Cleaner
from .sensitive import Schema, blank, replaced, schemas_of, sensitive_values

logger = logging.getLogger("outbox.operations")

_Row = TypeVar("_Row", Event, DelayedEvent)

_AT_ONCE = 200
_KEYS_AT_ONCE = 500
#: PostgreSQL ends a step that is idle for so long: its host may be down.
_IDLE_SECONDS = 60.0


class SubjectRedacted(DomainEvent, key="subject"):
    """A person's data was blanked in stored events. Blank what your app has of that person."""

    subject: str

    def in_words(self) -> str:
        """Name the subject, which is no personal data."""
        return _("Personal data of %s redacted") % self.subject


@dataclass
class Redaction:
    """How many events were blanked, had nothing to blank, and are owed and were left alone.

    Attributes:
        unknown: events that were left alone since no schema marks their sensitive fields, counted
            by name and version: "orders.OrderNoted version 1".
        unread: tenants whose rows could not be read, with the cause. Events and texts that only
            these rows connect with the person were left alone.
    """

    blanked: int = 0
    empty: int = 0
    owed: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether no event was left alone that may hold data of the person."""
        return not (self.owed or self.unknown or self.unread)


def redact(
    *,
    subject: str = "",
    keys: Collection[str] = (),
    by: str,
    reason: str,
    force: bool = False,
    dry_run: bool = False,
    after_slice: Callable[[Redaction], object] = lambda _so_far: None,
    using: str | None = None,
) -> Redaction:
    """Blank the sensitive fields of all stored events about a person, and notify the other apps.

    It works in small transactions. After an interruption it can be repeated. The failed attempts
    and the notes of these events' deliveries, and the reasons why their handlers are paused by a
    rule or held by a breaker, are cleaned of the person's data: of the sensitive
    values, and of the values that apps declare by `declare_subject`. Then `outbox.SubjectRedacted`
    is emitted, if a subject is given, for the apps that have rows about the person: one event
    without a tenant, and one for each tenant that can be restored.

    Args:
        subject: the person, as events declare it: "customer:7". Events of the keys that
            `declare_subject` returns for it are included.
        keys: keys of further events, emitted before their class declared a subject.
        by: the person or process that redacts.
        reason: the reason, for the log.
        force: also blank events with owed deliveries; their handlers will read blanks.
        dry_run: count only.
        after_slice: called after each of its transactions, with the numbers until then.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    of_subject = all_tenants.keys_of(subject, using=using)
    all_keys = sorted({*keys, *of_subject.found})
    # Read before the event is emitted: afterwards the apps blank the rows with these values.
    identifying = all_tenants.values_of(subject, using=using)
    values = identifying.found
    done = Redaction(unread={**of_subject.unread, **identifying.unread})
    for seqs in _slices(Event.objects.using(using), subject, all_keys):
        if not dry_run:
            _clean_reasons(seqs, values, using=using)
        _redact_some(done, seqs, values, force=force, dry_run=dry_run, using=using)
        after_slice(done)
    # A delayed event is not blanked: cancel it, or redact again after it was emitted.
    for delayed in _chosen(DelayedEvent.objects.using(using), subject, all_keys):
        for row in delayed.iterator():
            if is_unknown(row):
                done.unknown[_kind_of(row)] += 1
            elif blanked(row) != row.payload:
                done.owed += 1
    if not dry_run:
        if subject:
            _notify_apps(subject, by=by, without=identifying.not_restored, using=using)
        who = subject or f"{len(keys)} keys"
        logger.info("%s redacted %s (%d events): %s", by, who, done.blanked, reason)
    return done


def _notify_apps(subject: str, *, by: str, without: Collection[str], using: str) -> None:
    """Emit an event for each tenant: a handler can change only the rows of its event's tenant."""
    # The tenant of the caller may have no event any more.
    every = dict.fromkeys([*all_tenants.every_tenant(using=using), tenants.capture()])
    with transaction.atomic(using=using), acting_as(by):
        for tenant in every:
            if tenant not in without:
                with tenants.given(tenant):
                    emit(SubjectRedacted(subject=subject), using=using)


@dataclass(frozen=True)
class _Blank:
    """A blank that no other schema replaces."""

    value: Any


def blanked(event: Event | DelayedEvent) -> dict[str, object]:
    """Return an event's payload with blanks in its sensitive fields, each of the field's type."""
    payload = dict(event.payload)
    for schema in reversed(schemas_of(event)):  # of the stored version first: its blanks fit
        payload = replaced(payload, schema, _blank_once)
    return {name: _unwrapped(value) for name, value in payload.items()}


def _blank_once(schema: Schema, defs: Schema, value: Any) -> _Blank:
    return value if isinstance(value, _Blank) else _Blank(blank(schema, defs))


def _unwrapped(value: Any) -> Any:
    if isinstance(value, _Blank):
        return value.value
    if isinstance(value, dict):
        return {name: _unwrapped(part) for name, part in value.items()}
    return [_unwrapped(part) for part in value] if isinstance(value, list) else value


def is_unknown(event: Event | DelayedEvent) -> bool:
    """Return whether an event may hold personal data that no schema marks."""
    # One that was redacted before its class was deleted needs no second redaction.
    is_redacted = isinstance(event, Event) and event.redacted_at is not None
    return bool(event.payload) and not is_redacted and not schemas_of(event)


def _kind_of(event: Event | DelayedEvent) -> str:
    return f"{event.name} version {event.version}"


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
            if is_unknown(event):
                done.unknown[_kind_of(event)] += 1
            elif (payload := blanked(event)) == event.payload:
                done.empty += 1
            elif (event.seq in owed or event.fanned_out_at is None) and not force:
                done.owed += 1
            else:
                done.blanked += 1
                if not dry_run:
                    rows = Event.objects.using(using).filter(pk=event.pk)
                    rows.update(payload=payload, redacted_at=clock.now(using=using))


def _clean_reasons(seqs: Sequence[int], values: Sequence[str], *, using: str) -> None:
    """Mask the person's data in the reasons why handlers of these events are paused or held."""
    # Before the events and deliveries are locked: a relay locks subscriptions first.
    by_failure = Q(paused_by__startswith=Subscription.PAUSED_BY_RULE) | ~Q(breaker_reason="")
    rows = Subscription.objects.using(using)
    held = list(rows.filter(by_failure))
    if not held:
        return
    mine = Delivery.objects.using(using).filter(event__in=seqs)
    handlers = set(mine.values_list("subscription__handler", flat=True).distinct())
    events = Event.objects.using(using).filter(seq__in=seqs)
    cleaner = Cleaner([*values, *(str(one) for event in events for one in sensitive_values(event))])
    for row in held:
        if row.handler in handlers:
            _clean_reason(row, cleaner, using=using)


def _clean_reason(row: Subscription, cleaner: Cleaner, *, using: str) -> None:
    is_by_rule = row.paused_by.startswith(Subscription.PAUSED_BY_RULE)
    for column in ("pause_reason", "breaker_reason") if is_by_rule else ("breaker_reason",):
        text = getattr(row, column)
        cleaned = cleaner.clean(text, longest=len(text))
        if cleaned != text:  # the filter skips a row that was changed since it was read
            same = Subscription.objects.using(using).filter(pk=row.pk, **{column: text})
            same.update(**{column: cleaned})


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
