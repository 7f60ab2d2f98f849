"""The subcommand `why`: explain the deliveries that a term finds, those with problems first."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from textwrap import indent
from uuid import UUID

from django.core.management.base import CommandError
from django.db.models import Q
from django.utils.translation import gettext as _

from outbox import clock, databases
from outbox.deliveries.outstanding import owed_events
from outbox.formatting import listing
from outbox.models import DelayedEvent, Delivery, Event
from outbox.monitor import search
from outbox.monitor.conditions import Condition, condition_of
from outbox.monitor.diagnosis import why, why_delayed, why_event
from outbox.privacy.all_tenants import keys_of, unread_texts
from outbox.settlements.status import statuses_of_deliveries

from .common import MOST_EVENTS, Options, Write, count, events_of_key

_SEVERITY = tuple(Condition)
#: Returns the lines about a delivery.
_Lines = Callable[[Delivery], str]


class Why:
    """Explain the deliveries of an event, key, order or the like: problems first, done ones not.

    An id of one event or one delivery is explained whatever its state.
    """

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the term, --all and --with-traceback."""
        parser.add_argument(
            "id",
            metavar="TERM",
            help=_(
                "a delivery id, an event id, a key (an order's id), a correlation "
                "id, a trace id, a subject (customer:7), a tenant, or a term of "
                'OUTBOX["LOOKUPS"] such as a reference'
            ),
        )
        parser.add_argument("--all", action="store_true", help=_("also explain what is done"))
        parser.add_argument(
            "--with-traceback",
            action="store_true",
            help=_("also show the traceback of each delivery's latest failed attempt"),
        )

    def run(self, options: Options, write: Write) -> None:
        """Write a sentence for each event, each of its deliveries, and each delayed event."""
        lines = partial(_delivery_lines, with_traceback=options["with_traceback"])
        term = search.cleaned(options["id"])
        found = search.find(term)
        of_subject = keys_of(term, using=databases.alias())
        events = _events(term, found, of_subject.found)
        delayed = _delayed(term, found, of_subject.found)
        for text in unread_texts(of_subject.unread):
            write(text)
        if not events and not delayed and not found.deliveries:
            raise CommandError(_nothing(term, found))
        if len(events) == 1 and events[0] in found.events:
            _write_all(_loaded(events), write, lines)
        else:
            _write_problems(_loaded(events), write, lines, with_done=options["all"])
        for row in delayed:
            write(
                _("delayed event %(pk)s: %(name)s %(key)s\n    %(why_delayed)s")
                % {"pk": row.pk, "name": row.name, "key": row.key, "why_delayed": why_delayed(row)}
            )
        for delivery in found.deliveries:
            write(lines(delivery, with_event=True))


@dataclass(frozen=True)
class _Loaded:
    """An event and its deliveries with their conditions, the most severe first."""

    event: Event
    deliveries: Sequence[tuple[Condition, Delivery]]

    @property
    def severity(self) -> int:
        """Its place among the events; one that waits for the relay comes before done ones."""
        found = [_SEVERITY.index(condition) for condition, _delivery in self.deliveries]
        if self.event.fanned_out_at is None:
            found.append(_SEVERITY.index(Condition.IN_PROGRESS))
        return min(found, default=_SEVERITY.index(Condition.COMPLETE))

    @property
    def is_done(self) -> bool:
        return self.severity == _SEVERITY.index(Condition.COMPLETE)


def _loaded(events: Iterable[Event]) -> list[_Loaded]:
    now = clock.now(using=databases.alias())
    found = []
    for event in events:
        rows = event.deliveries.select_related("subscription", "event")
        mine = [(_condition(row, now), row) for row in rows.prefetch_related("failures")]
        mine.sort(key=lambda pair: (_SEVERITY.index(pair[0]), pair[1].pk))
        found.append(_Loaded(event, mine))
    return sorted(found, key=lambda one: (one.severity, one.event.seq))


def _condition(row: Delivery, now: datetime) -> Condition:
    """Return its condition; a publication that a consumer has to settle is in progress."""
    found = condition_of(row, now)
    if found != Condition.COMPLETE or not row.subscription.consumers:
        return found
    settlements = statuses_of_deliveries([row.pk], using=str(row._state.db)).get(row.pk, ())
    is_open = any(one.state == "open" for one in settlements)
    return Condition.IN_PROGRESS if is_open else found


def _write_all(found: Iterable[_Loaded], write: Write, lines: _Lines) -> None:
    for one in found:
        _write_event(one.event, write)
        for _condition, row in one.deliveries:
            write(lines(row))


def _write_problems(
    found: Sequence[_Loaded], write: Write, lines: _Lines, *, with_done: bool
) -> None:
    if with_done:
        _write_all(found, write, lines)
        return
    for one in found:
        if not one.is_done:
            _write_event(one.event, write)
        for condition, row in one.deliveries:
            if condition != Condition.COMPLETE:
                write(lines(row))
    done = sum(one.is_done for one in found)
    settled = sum(pair[0] == Condition.COMPLETE for one in found for pair in one.deliveries)
    if settled or done:
        text = _(
            "Not shown, because they are done: %(events)s, %(deliveries)s. Add --all to see them."
        )
        deliveries = count(settled, "delivery", "deliveries")
        write(text % {"events": count(done, "event"), "deliveries": deliveries})


def _events(term: str, found: search.Found, of_subject: Sequence[str]) -> list[Event]:
    """Return the events of keys, rows, correlation and trace; then those about a subject."""
    keys = [*found.keys, *(str(row.pk) for row in found.rows)]
    events = [event for key in dict.fromkeys(keys) for event in events_of_key(key)]
    rows = Event.objects.using(databases.alias())
    if found.correlation:
        same = rows.filter(correlation_id=found.correlation).order_by("seq")
        events += same[:MOST_EVENTS]
    # Of a long key, only the newest events are read above. Older ones may be owed.
    about = Q(subject=term) | Q(key__in=[*keys, *of_subject])
    if found.tenant:
        about |= Q(tenant=found.tenant)
    # Without LIMIT in the query: with one, PostgreSQL may read all events in the order of seq.
    owed = owed_events(using=databases.alias()).filter(about).order_by("seq")
    first = list(owed.values_list("pk", flat=True))[:MOST_EVENTS]  # without their payloads
    events += rows.filter(pk__in=first).order_by("seq")
    return list({event.pk: event for event in (events or found.events)}.values())


def _delayed(term: str, found: search.Found, of_subject: Sequence[str]) -> list[DelayedEvent]:
    """Return the delayed events of a key, a row, a subject or an id, the first due first."""
    keys = [term, *(str(row.pk) for row in found.rows), *of_subject]
    is_meant = Q(subject=term) | Q(key__in=keys)
    with suppress(ValueError):  # the text may be no UUID
        is_meant |= Q(pk=UUID(term))
    rows = DelayedEvent.objects.using(databases.alias()).filter(is_meant)
    return list(rows.order_by("due_at", "id")[:MOST_EVENTS])


def _nothing(term: str, found: search.Found) -> str:
    if found.rows:
        text = _("%(row)s has no events. They may have been pruned.")
        return text % {"row": found.rows[0]}
    return _("Nothing matches %(term)s. Searched: %(names)s, subject. It may have been pruned.") % {
        "term": term,
        "names": listing(search.searched()),
    }


def _write_event(event: Event, write: Write) -> None:
    write(
        _("event %(id)s: %(name)s %(key)s%(tenant)s\n    %(why_event)s")
        % {
            "id": event.id,
            "name": event.name,
            "key": event.key,
            "tenant": _(", tenant %s") % event.tenant if event.tenant else "",
            "why_event": why_event(event),
        }
    )


def _delivery_lines(
    row: Delivery, *, with_event: bool = False, with_traceback: bool = False
) -> str:
    """Return a delivery and why it has its state, with the traceback that the admin shows."""
    of_event = (
        _(", event %(event_line)s") % {"event_line": _event_line(row.event)} if with_event else ""
    )
    text = _("delivery %(pk)s of %(receiver)s%(of_event)s: %(state)s\n    %(why)s") % {
        "pk": row.pk,
        "receiver": row.receiver,
        "of_event": of_event,
        "state": row.get_state_display(),
        "why": why(row),
    }
    failed = row.failures.exclude(traceback="").order_by("pk").last() if with_traceback else None
    return text if failed is None else f"{text}\n{indent(failed.traceback.strip(), '    ')}"


def _event_line(event: Event) -> str:
    return f"{event.name} {event.key} ({event.id})"
