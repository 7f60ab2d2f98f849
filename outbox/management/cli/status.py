"""Show what each handler is owed, and what waits for fan-out."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from outbox.formatting import format_time, one_line, span
from outbox.monitor.status import HandlerStatus, Status
from outbox.monitor.status import status as status_now

from .common import count, table

_HEAD = (
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


def add_arguments(parser: ArgumentParser) -> None:
    """Declare --json."""
    parser.add_argument("--json", action="store_true", help="for programs: one JSON object")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write the table, or the JSON."""
    found = status_now()
    if options["json"]:
        write(json.dumps(_as_json(found), cls=DjangoJSONEncoder, indent=2))
        return
    if found.handlers:
        write(table(_HEAD, [_row(found, one) for one in found.handlers]))
    else:
        write("No handler is subscribed: run migrate, which stores the subscriptions.")
    write(_waiting(found))


def _row(found: Status, one: HandlerStatus) -> tuple[object, ...]:
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
        _remark(one),
    )


def _remark(one: HandlerStatus) -> str:
    if not one.is_known:
        return "unknown to the code that was last migrated"
    if one.held_text:
        return one.held_text
    if one.paused_at:
        who = one.paused_by or "someone"
        return _with_reason(f"paused by {who} at {format_time(one.paused_at)}", one.pause_reason)
    if one.breaker_opened_at:
        probe = (
            f", next probe at {format_time(one.breaker_probe_at)}" if one.breaker_probe_at else ""
        )
        text = f"breaker open since {format_time(one.breaker_opened_at)}{probe}"
        return _with_reason(text, one.breaker_reason)
    return ""


def _with_reason(text: str, reason: str) -> str:
    return f"{text}: {one_line(reason)}" if reason.strip() else text


def _waiting(found: Status) -> str:
    age = found.age(found.oldest_waiting)
    if age is None:
        return "No event waits for fan-out."
    number = found.waiting_events
    verb = "waits" if number == 1 else "wait"
    return f"{count(number, 'event')} {verb} for fan-out, the oldest for {span(age)}."


def _as_json(found: Status) -> dict[str, Any]:
    return {
        "at": found.at,
        "handlers": [_handler_as_json(found, one) for one in found.handlers],
        "waiting_events": found.waiting_events,
        "oldest_waiting_seconds": _seconds(found, found.oldest_waiting),
    }


def _handler_as_json(found: Status, one: HandlerStatus) -> dict[str, Any]:
    columns = asdict(one)
    del columns["oldest_in"]
    return {
        **columns,
        "oldest_owed_seconds": _seconds(found, one.oldest),
        "is_paused": one.paused_at is not None,
        "is_breaker_open": one.breaker_opened_at is not None,
    }


def _seconds(found: Status, when: Any) -> float | None:
    age = found.age(when)
    return round(age.total_seconds(), 3) if age is not None else None
