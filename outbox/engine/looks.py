"""A look at what there is to do, of events and for each subscription; it writes nothing.

Each part is one probe of one of the small indexes of what is owed, so it costs the same however
much waits. In SQL, since the planner makes `EXISTS` into a set of all that waits, and reads it
whole, while it knows little of a young table; `ORDER BY ... LIMIT 1` is a probe whatever it thinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connections

from .decisions import helping
from .statements import moment


@dataclass(frozen=True)
class Work:
    """What there is to do for a subscription, and what bounds it."""

    is_held: bool
    has_pending: bool
    has_due: bool
    has_lapsed: bool
    has_parked: bool
    has_blocked: bool
    in_flight: int
    window_now: int
    batch: int
    is_open: bool
    may_probe: bool

    @property
    def is_any(self) -> bool:
        """Whether a relay that has the lock would find something to do."""
        if self.has_lapsed or self.has_blocked:
            return True
        if self.is_held:
            return self.has_pending
        return self.has_parked or (self.has_due and self._may_send)

    @property
    def _may_send(self) -> bool:
        if self.is_open:
            return self.may_probe
        room = helping(window=self.window_now, in_flight=self.in_flight, batch=self.batch)
        return bool(room)


@dataclass(frozen=True)
class Due:
    """What of events is due: some wait for fan-out, the time of delayed ones has come."""

    has_waiting: bool = False
    has_delayed: bool = False

    @property
    def are_any(self) -> bool:
        """Whether a pass would find something."""
        return self.has_waiting or self.has_delayed


def look_at_events(now: datetime, *, using: str) -> Due:
    """Return what of events is due."""
    with connections[using].cursor() as cursor:
        cursor.execute(_LOOK_AT_EVENTS, [moment(now, using=using)])
        waiting, delayed = cursor.fetchone()
    return Due(waiting is not None, delayed is not None)


def look(now: datetime, *, using: str) -> dict[int, Work]:
    """Return what there is to do for each active subscription, by its id."""
    with connections[using].cursor() as cursor:
        cursor.execute(_LOOK, {"now": moment(now, using=using)})
        return {row[0]: _work(row[1:]) for row in cursor.fetchall()}


def _work(columns: Sequence[Any]) -> Work:
    """Make it of a row; SQLite has numbers for truth, and nothing for "is due" where none is."""
    *flags, in_flight, window_now, batch, is_open, may_probe = columns
    return Work(*map(bool, flags), in_flight, window_now, batch, bool(is_open), bool(may_probe))  # type: ignore[call-arg]  # six flags


def _first(column: str, state: str) -> str:
    return (
        f"(SELECT d.{column} FROM outbox_delivery d WHERE d.subscription_id = s.id "  # noqa: S608  words of our own
        f"AND d.state = '{state}' ORDER BY d.{column} LIMIT 1)"
    )


_LOOK_AT_EVENTS = """
SELECT
    (SELECT seq FROM outbox_event WHERE fanned_out_at IS NULL ORDER BY seq LIMIT 1),
    (SELECT id FROM outbox_delayedevent WHERE due_at <= %s ORDER BY due_at LIMIT 1)
"""

_LOOK = f"""
SELECT
    s.id,
    s.paused_at IS NOT NULL OR NOT s.known,
    {_first("due_at", "pending")} IS NOT NULL,
    {_first("due_at", "pending")} <= %(now)s,
    {_first("due_at", "sent")} <= %(now)s,
    {_first("id", "parked")} IS NOT NULL,
    {_first("due_at", "blocked")} <= %(now)s,
    (SELECT count(*) FROM outbox_delivery d
     WHERE d.subscription_id = s.id AND d.state = 'sent' AND d.due_at > %(now)s),
    s.window_now,
    s.batch,
    s.breaker_opened_at IS NOT NULL,
    s.breaker_probe_at IS NULL OR s.breaker_probe_at <= %(now)s
FROM outbox_subscription s WHERE s.active ORDER BY s.id
"""  # noqa: S608  words of our own
