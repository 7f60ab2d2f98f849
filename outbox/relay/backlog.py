"""The backlog: pending work of events and subscriptions, read without a lock, or locked for a pass.

Each part is one probe of a small partial index on owed rows. So the cost does not depend on the
size of the backlog. It is SQL because PostgreSQL may plan `EXISTS` as a scan of the whole backlog
while it has few statistics of a new table. `ORDER BY ... LIMIT 1` is a probe under any plan.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from outbox.deliveries.statements import (
    Columns,
    Rows,
    Statement,
    bounds,
    locking,
    numbers,
    read,
    read_each,
    timestamp,
)
from outbox.models import Delivery, Event, Subscription


@dataclass(frozen=True, kw_only=True)
class PendingWork:
    """Pending work of a subscription, and its limits.

    `first_lease` is the time at which the first lease of its deliveries in flight expires. After
    it the delivery is in flight until a pass settles it: its late message may still start it.
    """

    is_held: bool
    has_pending: bool
    has_due: bool
    has_lapsed: bool
    has_parked: bool
    has_blocked: bool
    first_lease: datetime | None
    in_flight: int
    window_now: int
    is_open: bool
    may_probe: bool

    @property
    def is_any(self) -> bool:
        """Whether a relay that holds the lock has something to do."""
        if self.has_lapsed or self.has_blocked:
            return True
        if self.is_held:
            return self.has_pending
        return self.has_parked or (self.has_due and self._may_send)

    @property
    def _may_send(self) -> bool:
        if self.is_open:
            return self.may_probe
        return self.in_flight < self.window_now


class Waiting(NamedTuple):
    """Columns of an event that waits for fan-out, in the order of the model."""

    seq: int
    name: str
    key: str
    share: str | None
    emitted_at: datetime
    traceparent: str


@dataclass(frozen=True)
class Due:
    """Due events: whether some wait for fan-out, and whether delayed ones are due.

    Also whether settlements of consumers are overdue, and whether received events have to be
    checked for a report.
    """

    has_waiting: bool = False
    has_delayed: bool = False
    has_overdue: bool = False
    has_reports: bool = False

    @property
    def are_any(self) -> bool:
        """Whether a pass has events to process."""
        return self.has_waiting or self.has_delayed


def read_due_events(now: datetime, *, using: str) -> Due:
    """Return which kinds of events are due; without a lock."""
    at = timestamp(now, using=using)
    (found,) = read(_READ_DUE_EVENTS, at, at, at, using=using)
    return Due(*(one is not None for one in found))


def read_work(now: datetime, *, using: str) -> dict[int, PendingWork]:
    """Return the pending work of each active subscription, by its id."""
    (rows,) = read_each(work_statement(using=using), using=using)
    return work_of(rows, now=now, using=using)


def work_statement(*, using: str, is_brief: bool = False) -> Statement:
    """Return the statement that reads the pending work of each active subscription.

    A brief one reads only what can be sent. It finds no lapsed, parked or blocked deliveries. It
    takes half the time, most of which is PostgreSQL's planning.
    """
    return Statement(_READ_BRIEFLY if is_brief else _READ_WORK)


def work_of(rows: Rows, *, now: datetime, using: str) -> dict[int, PendingWork]:
    """Convert the rows of `work_statement` to the pending work by subscription id."""
    return {row[0]: _work(row[1:], now=now, using=using) for row in rows}


@dataclass(frozen=True)
class Locked:
    """Rows that a pass has locked until it commits.

    Attributes:
        events: a page of the events that wait for fan-out.
        subscriptions: the active subscriptions that no other relay has locked.
        work: the pending work of all active subscriptions, by id.
    """

    events: Sequence[Waiting]
    subscriptions: Sequence[Subscription]
    work: Mapping[int, PendingWork]


def lock_backlog(
    now: datetime,
    *,
    idle_seconds: float,
    is_brief: bool,
    page: int,
    using: str,
) -> Locked:
    """Lock events and subscriptions for a pass, in the caller's transaction, in one round trip.

    At most `page` events are locked.

    The work is read by a later statement than the one that locks. The locking one may count what
    was in flight before the claims of a relay that has just released the lock.
    """
    # Events first: a subscription that exists when an event is stored is then found.
    *_, events, subscriptions, work = read_each(
        *bounds(idle_seconds, using=using),
        waiting_events(page=page, using=using),
        free_subscriptions(using=using),
        work_statement(using=using, is_brief=is_brief),
        using=using,
    )
    return Locked(
        [Waiting(*WAITING.convert(row, using=using)) for row in events],
        [_S.read(row, using=using) for row in subscriptions],
        work_of(work, now=now, using=using),
    )


def waiting_events(*, page: int, using: str) -> Statement:
    """Lock the `page` oldest events that wait for fan-out and that no other relay has locked."""
    oldest = f"ORDER BY e.seq LIMIT {page:d}{locking(using=using, skip_locked=True)}"
    return Statement(f"{_WAITING} {oldest}", is_page=True)


def waiting_events_at(seqs: Collection[int], *, using: str) -> Statement:
    """Lock those of some events that wait for fan-out and that no other relay has locked."""
    lock = locking(using=using, skip_locked=True)
    return Statement(f"{_WAITING} AND e.seq IN ({numbers(seqs)}) ORDER BY e.seq{lock}")


def free_subscriptions(*, using: str) -> Statement:
    """Lock the active subscriptions that no other relay has locked."""
    # no_key: inserts of deliveries by others need not wait for this lock (foreign key).
    lock = locking(using=using, skip_locked=True, no_key=True)
    return Statement(f"{_ACTIVE}{lock}")


def _work(columns: Sequence[Any], *, now: datetime, using: str) -> PendingWork:
    is_held, opened_at, probe_at, pending, sent, blocked, parked, in_flight, window_now = columns
    pending, sent, blocked, probe_at = (
        _due_at(one, using=using) for one in (pending, sent, blocked, probe_at)
    )
    return PendingWork(
        is_held=bool(is_held),  # SQLite returns 0 or 1
        has_pending=pending is not None,
        has_due=pending is not None and pending <= now,
        has_lapsed=sent is not None and sent <= now,
        has_parked=parked is not None,
        has_blocked=blocked is not None and blocked <= now,
        first_lease=sent,
        in_flight=in_flight,
        window_now=window_now,
        is_open=opened_at is not None,
        may_probe=probe_at is None or probe_at <= now,
    )


def _due_at(value: Any, *, using: str) -> datetime | None:
    """Convert a database value to a `datetime`, as the model does."""
    found: datetime | None = _DUE.convert([value], using=using)[0]
    return found


def _first(column: str, state: str) -> str:
    return (
        f"(SELECT d.{column} FROM outbox_delivery d WHERE d.subscription_id = s.id "  # noqa: S608  own words
        f"AND d.state = '{state}' ORDER BY d.{column} LIMIT 1)"
    )


_READ_DUE_EVENTS = """
SELECT
    (SELECT seq FROM outbox_event WHERE fanned_out_at IS NULL ORDER BY seq LIMIT 1),
    (SELECT id FROM outbox_delayedevent WHERE due_at <= %s ORDER BY due_at LIMIT 1),
    (SELECT id FROM outbox_settlement
     WHERE state = 'open' AND due_at <= %s ORDER BY due_at LIMIT 1),
    (SELECT id FROM outbox_settlementreport
     WHERE reported_at IS NULL AND check_at <= %s ORDER BY check_at LIMIT 1)
"""

_DUE = Columns(Delivery, alias="d", names=("due_at",))


def _text(*, is_brief: bool) -> str:
    rare = [_first("due_at", "sent"), _first("due_at", "blocked"), _first("id", "parked")]
    sent, blocked, parked = ["NULL"] * 3 if is_brief else rare
    return f"""
SELECT
    s.id,
    s.paused_at IS NOT NULL OR NOT s.known,
    s.breaker_opened_at,
    s.breaker_probe_at,
    {_first("due_at", "pending")},
    {sent},
    {blocked},
    {parked},
    (SELECT count(*) FROM outbox_delivery d
     WHERE d.subscription_id = s.id AND d.state = 'sent'),
    s.window_now
FROM outbox_subscription s WHERE s.active ORDER BY s.id
"""  # noqa: S608  own words


#: The columns of `Waiting`, and their conversion.
WAITING = Columns(Event, alias="e", names=Waiting._fields)
_WAITING = f"SELECT {WAITING.text} FROM outbox_event e WHERE e.fanned_out_at IS NULL"  # noqa: S608  ours
_S = Columns(Subscription, alias="s")
_ACTIVE = f"SELECT {_S.text} FROM outbox_subscription s WHERE s.active ORDER BY s.id"  # noqa: S608  ours
_READ_WORK, _READ_BRIEFLY = _text(is_brief=False), _text(is_brief=True)
