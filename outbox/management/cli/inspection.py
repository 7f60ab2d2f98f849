"""Read-only subcommands: status, why, tail, groups and blocked."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import databases
from outbox.deliveries.outstanding import owed_events
from outbox.formatting import format_time, span
from outbox.models import DelayedEvent, Delivery, Event
from outbox.monitor import blocked, groups, status
from outbox.monitor.consumers import ConsumerStatus
from outbox.monitor.diagnosis import why, why_delayed, why_event
from outbox.monitor.sources import SourceStatus, source_statuses
from outbox.monitor.tail import Follower
from outbox.privacy import subjects
from outbox.sources.state import OUTCOMES

from .common import (
    MOST_EVENTS,
    Options,
    Write,
    add_json,
    count,
    delivery_id,
    events_of_key,
    find_event,
    table,
    write_json,
)
from .filters import refuse_unknown_handler

_POLL_SECONDS = 1.0
_STATUS_HEAD = (
    "HANDLER",
    "PENDING",
    "RETRYING",
    "SENT",
    "DEAD",
    "PARKED",
    "BLOCKED",
    "OLDEST",
    "/MIN",
    "",
)
_CONSUMERS_HEAD = ("CONSUMER", "SINK", "OPEN", "LATE", "MISSING")
_SOURCES_HEAD = ("SOURCE", "PROCESSES", "LAG", *(name.upper() for name in OUTCOMES), "")


class Status:
    """Show the owed deliveries of each handler, and the events that wait for fan-out."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --json."""
        add_json(parser)

    def run(self, options: Options, write: Write) -> None:
        """Write the table, or the JSON."""
        found = status.status()
        if options["json"]:
            write_json(_status_as_json(found), write)
            return
        if found.handlers:
            write(table(_STATUS_HEAD, [_status_row(found, one) for one in found.handlers]))
        else:
            write(_("No handler is subscribed. Run migrate: it stores the subscriptions."))
        write(_waiting_events(found))
        if sources := source_statuses():
            write(table(_SOURCES_HEAD, [_source_row(one) for one in sources]))
        if found.consumers:
            write(table(_CONSUMERS_HEAD, [_consumer_row(one) for one in found.consumers]))


class Why:
    """Explain the state of a delivery, or of all events and delayed events of a key or subject."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the id."""
        parser.add_argument(
            "id",
            metavar="ID",
            help=_("a delivery id, an event id, a key (an order's id), or a subject (customer:7)"),
        )

    def run(self, options: Options, write: Write) -> None:
        """Write a sentence for each event, each of its deliveries, and each delayed event."""
        text = options["id"]
        about = Q(subject=text) | Q(key__in=subjects.keys_of(text))
        events, delayed = _events_about(text, about), _delayed_about(text, about)
        if not events and not delayed and (event := find_event(text)):
            events = [event]
        for event in events:
            _write_event(event, write)
        for row in delayed:
            write(
                _("delayed event %(pk)s: %(name)s %(key)s\n    %(why_delayed)s")
                % {"pk": row.pk, "name": row.name, "key": row.key, "why_delayed": why_delayed(row)}
            )
        if not events and not delayed:
            write(_delivery_line(_find_delivery(text), with_event=True))


class Tail:
    """Follow new events and the results of their deliveries."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the filters, --last and --no-follow."""
        parser.add_argument(
            "--handler", metavar="HANDLER", help=_("only deliveries of this handler")
        )
        parser.add_argument("--event", metavar="EVENT", help=_('only this event, "app.ClassName"'))
        parser.add_argument("--key", metavar="KEY", help=_("only this key, such as an order's id"))
        parser.add_argument(
            "--last", type=int, default=10, metavar="N", help=_("stored events to begin with (10)")
        )
        parser.add_argument("--no-follow", action="store_true", help=_("end after these events"))

    def run(self, options: Options, write: Write) -> None:
        """Write a line for each new event and each changed delivery, until Ctrl-C."""
        if options["handler"]:
            refuse_unknown_handler(options["handler"])
        follower = Follower(
            handler=options["handler"] or "",
            event=options["event"] or "",
            key=options["key"] or "",
            last=max(0, options["last"]),
        )
        try:
            for _ in _polls(once=options["no_follow"]):
                for line in follower.poll():
                    write(line)
        except KeyboardInterrupt:
            return


class Groups:
    """Show dead deliveries grouped by cause, with the command that retries each group."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --json."""
        add_json(parser)

    def run(self, options: Options, write: Write) -> None:
        """Write the groups, or the JSON."""
        found = groups.groups()
        if options["json"]:
            write_json([_group_as_json(one) for one in found], write)
            return
        for one in found:
            _write_group(one, write)
        if not found:
            write(_("No delivery is dead."))


class Blocked:
    """List the blocked keys of ordered handlers, with the delivery that blocks each."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --most."""
        parser.add_argument(
            "--most", type=int, default=blocked.MOST, metavar="N", help=_("maximum of keys (50)")
        )

    def run(self, options: Options, write: Write) -> None:
        """Write each key with the delivery that blocks it, the most blocked first."""
        found = blocked.blocked_keys(max(1, options["most"]))
        for one in found:
            number = count(one.number, "delivery", "deliveries")
            write(
                _("%(key)s of %(handler)s: %(number)s blocked")
                % {"key": one.key, "handler": one.handler, "number": number}
            )
            if one.head is not None:
                write(
                    "    "
                    + _("by delivery %(pk)s (%(state)s): %(why)s")
                    % {"pk": one.head.pk, "state": one.head.state, "why": one.why}
                )
        if not found:
            write(_("No key is blocked."))


def _status_row(found: status.Status, one: status.HandlerStatus) -> tuple[object, ...]:
    age = found.age(one.oldest)
    return (
        one.handler,
        one.pending,
        one.retrying,
        one.sent,
        one.dead,
        one.parked,
        one.blocked,
        span(age) if age is not None else "-",
        one.done_in_a_minute,
        one.stop.cause_and_reason if one.stop else "",
    )


def _waiting_events(found: status.Status) -> str:
    age = found.age(found.oldest_waiting)
    if age is None:
        return _("No event waits for fan-out.")
    number = found.waiting_events
    text = ngettext(
        "%(counted)s waits for fan-out, the oldest for %(age)s.",
        "%(counted)s wait for fan-out, the oldest for %(age)s.",
        number,
    )
    return text % {"counted": count(number, "event"), "age": span(age)}


def _source_row(one: SourceStatus) -> tuple[object, ...]:
    lag = "?" if one.lag is None else one.lag
    condition = _("failing") if one.failing_at else _("paused: backlog") if one.paused_at else ""
    processes, lag = (one.processes, lag) if one.is_pulled else ("http", "-")
    return (one.name, processes, lag, *(one.counts[name] for name in OUTCOMES), condition)


def _consumer_row(one: ConsumerStatus) -> tuple[object, ...]:
    return (one.consumer, one.handler, one.open, one.late, one.missing)


def _status_as_json(found: status.Status) -> dict[str, Any]:
    return {
        "at": found.at,
        "handlers": [_handler_as_json(found, one) for one in found.handlers],
        "waiting_events": found.waiting_events,
        "oldest_waiting_seconds": _seconds(found, found.oldest_waiting),
        "sources": [_source_as_json(one) for one in source_statuses()],
        "consumers": [asdict(one) for one in found.consumers],
    }


def _source_as_json(one: SourceStatus) -> dict[str, Any]:
    columns = asdict(one)
    seen = columns.pop("seen")
    return {**columns, "seen_at": seen["at"]}


def _handler_as_json(found: status.Status, one: status.HandlerStatus) -> dict[str, Any]:
    columns = asdict(one)
    del columns["oldest_in"], columns["stops"]
    return {
        **columns,
        "oldest_owed_seconds": _seconds(found, one.oldest),
        "is_paused": one.paused_at is not None,
        "is_breaker_open": one.breaker_opened_at is not None,
    }


def _seconds(found: status.Status, when: Any) -> float | None:
    age = found.age(when)
    return round(age.total_seconds(), 3) if age is not None else None


def _events_about(key: str, about_subject: Q) -> list[Event]:
    """Return all events of a key, then the owed events about a subject."""
    owed = owed_events(using=databases.alias()).filter(about_subject).exclude(key=key)
    # Without LIMIT in the query: with one, PostgreSQL may read all events in the order of seq.
    return [*events_of_key(key), *list(owed.order_by("seq"))[:MOST_EVENTS]]


def _delayed_about(text: str, about_subject: Q) -> list[DelayedEvent]:
    """Return the delayed events of a key, a subject or an id, the first due first."""
    is_meant = about_subject | Q(key=text)
    with suppress(ValueError):  # the text may be no UUID
        is_meant |= Q(pk=UUID(text))
    rows = DelayedEvent.objects.using(databases.alias()).filter(is_meant)
    return list(rows.order_by("due_at", "id")[:MOST_EVENTS])


def _write_event(event: Event, write: Write) -> None:
    write(
        _("event %(id)s: %(name)s %(key)s\n    %(why_event)s")
        % {"id": event.id, "name": event.name, "key": event.key, "why_event": why_event(event)}
    )
    rows = event.deliveries.select_related("subscription").prefetch_related("failures")
    for row in rows.order_by("id"):
        write(_delivery_line(row, with_event=False))


def _find_delivery(text: str) -> Delivery:
    rows = Delivery.objects.select_related("subscription", "event")
    found = rows.filter(pk=delivery_id(text)).first()
    if found is None:
        raise CommandError(
            _("No delivery has the id %(text)s. It may have been pruned.") % {"text": text}
        )
    return found


def _delivery_line(row: Delivery, *, with_event: bool) -> str:
    of_event = (
        _(", event %(event_line)s") % {"event_line": _event_line(row.event)} if with_event else ""
    )
    return _("delivery %(pk)s of %(receiver)s%(of_event)s: %(state)s\n    %(why)s") % {
        "pk": row.pk,
        "receiver": row.receiver,
        "of_event": of_event,
        "state": row.state,
        "why": why(row),
    }


def _event_line(event: Event) -> str:
    return f"{event.name} {event.key} ({event.id})"


def _polls(*, once: bool) -> Iterator[None]:
    yield
    while not once:
        time.sleep(_POLL_SECONDS)
        yield


def _group_as_json(one: groups.Group) -> dict[str, Any]:
    return {**asdict(one), "retry": one.retry, "correct": one.correct}


def _write_group(one: groups.Group, write: Write) -> None:
    where = (" " + _("at %(place)s") % {"place": one.place}) if one.place and not one.reason else ""
    times = _("between %(first)s and %(last)s") % {
        "first": format_time(one.first),
        "last": format_time(one.last),
    }
    write(
        _("%(counted)s of %(handler)s: %(cause)s%(where)s")
        % {
            "counted": count(one.number, "delivery", "deliveries"),
            "handler": one.handler,
            "cause": one.cause,
            "where": where,
        }
    )
    write(
        "    "
        + _("%(times)s, for example delivery %(example)s")
        % {"times": times, "example": one.example}
    )
    if one.is_overtaken:
        write(
            "    "
            + _("a retry runs them out of order; see manage.py outbox why %(example)s")
            % {"example": one.example}
        )
        write("    " + _("if the handler can run out of order: %(retry)s") % {"retry": one.retry})
        write("    " + _("otherwise: %(discard)s") % {"discard": one.discard})
        return
    if one.is_unsettled:
        write(
            "    "
            + _("first check the consumer: manage.py outbox why %(example)s")
            % {"example": one.example}
        )
        write("    " + _("to publish them again: %(retry)s") % {"retry": one.retry})
        write("    " + _("if the settlement is not needed: %(discard)s") % {"discard": one.discard})
    elif one.reason:
        write("    " + _("to correct one: %(correct)s") % {"correct": one.correct})
        write("    " + _("after a release that can read them: %(retry)s") % {"retry": one.retry})
        write("    " + _("otherwise: %(discard)s") % {"discard": one.discard})
    else:
        write(f"    {one.retry}")
