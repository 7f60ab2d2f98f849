"""Read-only subcommands: status, tail and blocked."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.formatting import span
from outbox.monitor import blocked, demand, status
from outbox.monitor.consumers import ConsumerStatus
from outbox.monitor.failures import unexamined_text
from outbox.monitor.health import Heartbeats, failure_text
from outbox.monitor.sources import SourceStatus, source_statuses
from outbox.monitor.tail import Follower
from outbox.monitor.unserved import waiting_since
from outbox.sources.state import OUTCOMES

from .common import (
    Options,
    Write,
    add_json,
    count,
    red,
    table,
    write_json,
)
from .failures import failing_as_json
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
        beats = Heartbeats()
        if failure := _relay_failure(beats):
            write(red(_("relay: %(failure)s") % {"failure": failure}, options))
        for refused in beats.refused_queues():
            facts = {"queue": refused.queue, "text": refused.in_words(beats.now)}
            write(red(_("queue %(queue)s: %(text)s") % facts, options))
        for one in found.failing:
            write(red(one.text, options))
        for handler in found.unexamined:
            write(red(unexamined_text(handler), options))
        write(_waiting_events(found))
        if sources := source_statuses():
            write(table(_SOURCES_HEAD, [_source_row(one) for one in sources]))
        if found.consumers:
            write(table(_CONSUMERS_HEAD, [_consumer_row(one) for one in found.consumers]))


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
            for _poll in _polls(once=options["no_follow"]):
                for line in follower.poll():
                    write(line)
        except KeyboardInterrupt:
            return


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
                state = one.head.get_state_display()
                write(
                    "    "
                    + _("by delivery %(pk)s (%(state)s): %(why)s")
                    % {"pk": one.head.pk, "state": state, "why": one.why}
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
    beats, due = Heartbeats(), waiting_since()
    return {
        "at": found.at,
        "handlers": [_handler_as_json(found, one, due.get(one.handler)) for one in found.handlers],
        "failing": [failing_as_json(one) for one in found.failing],
        "unexamined": list(found.unexamined),
        "relay_failure": _relay_failure(beats),
        "refused_queues": [asdict(one) for one in beats.refused_queues()],
        "queues": [asdict(one) for one in demand.queue_demands()],
        "waiting_events": found.waiting_events,
        "oldest_waiting_seconds": _seconds(found, found.oldest_waiting),
        "sources": [_source_as_json(one) for one in source_statuses()],
        "consumers": [asdict(one) for one in found.consumers],
    }


def _relay_failure(beats: Heartbeats) -> str:
    failing = beats.failing_relay()
    return failure_text(failing) if failing else ""


def _source_as_json(one: SourceStatus) -> dict[str, Any]:
    columns = asdict(one)
    seen = columns.pop("seen")
    del columns["is_expected"]  # it is: others are left out
    return {**columns, "seen_at": seen["at"]}


def _handler_as_json(
    found: status.Status, one: status.HandlerStatus, due: datetime | None
) -> dict[str, Any]:
    columns = asdict(one)
    del columns["oldest_in"], columns["stops"]
    return {
        **columns,
        "oldest_owed_seconds": _seconds(found, one.oldest),
        "longest_due_seconds": _seconds(found, due) or 0.0,
        "is_paused": one.paused_at is not None,
        "is_breaker_open": one.breaker_opened_at is not None,
    }


def _seconds(found: status.Status, when: Any) -> float | None:
    age = found.age(when)
    return round(age.total_seconds(), 3) if age is not None else None


def _polls(*, once: bool) -> Iterator[None]:
    yield
    while not once:
        time.sleep(_POLL_SECONDS)
        yield
