"""The start of a message: one commit stores the start of all its deliveries by a worker.

It distinguishes a killed worker from a lost message. Deliveries that must not run are
parked, blocked or handed back.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any

from django.db import connections, transaction
from django.db.models import F

from outbox import clock
from outbox.contracts import upcasting
from outbox.deliveries import breaker, failpoints, ordering, settlement
from outbox.deliveries.key_locks import lock_all_keys
from outbox.deliveries.lease import (
    EVENT,
    SUBSCRIPTION,
    Pair,
    by_token,
    duration,
    reads_after_start,
    started,
    unhindered,
)
from outbox.deliveries.statements import (
    SENT,
    Columns,
    Rows,
    Statement,
    execute,
    locking,
    numbers,
    read,
    read_each,
    timestamp,
)
from outbox.deliveries.transient_errors import DatabaseAccess
from outbox.deliveries.withdrawal import withdraw_deaths_later
from outbox.events import selects
from outbox.formatting import end_command
from outbox.models import Delivery, Subscription
from outbox.subscriptions import Handler

from .start_sql import FREE, FREE_OR_OURS, IN_TURN, RETURNING, STARTED, UNORDERED

logger = logging.getLogger("outbox.start")

State = Delivery.State


@dataclass
class _Start:
    """One start. Its rows contain its identity, so a second try finds the result of the first.

    `subscription`: start only its deliveries.
    `is_doubtful`: a try has failed, and its transaction may have been committed: the database's
    answer was lost, or "locked" was raised after half of its statements.
    """

    worker: str
    at: datetime
    lasts: timedelta
    subscription: int | None = None
    is_doubtful: bool = False
    until: datetime = field(init=False, repr=False)

    @contextmanager
    def tried(self, *, using: str) -> Iterator[None]:
        """Begin the lease, and record whether the block fails."""
        # At each try: an outage of the database may have outlasted the lease since the last one.
        self.until = clock.now(using=using) + self.lasts
        try:
            yield
        except Exception:
            self.is_doubtful = True
            raise

    def has(self, row: Delivery) -> bool:
        """Return whether an earlier try started a delivery that was not sent again since."""
        is_mine = (row.started_at, row.worker) == (self.at, self.worker)
        return self.is_doubtful and is_mine and row.started_token == row.token

    def give_back(self, rows: Sequence[Delivery], *, using: str) -> None:
        """Give back the attempt of an earlier try to deliveries that must not start now."""
        pks = [row.pk for row in rows if self.has(row)]
        if pks:
            mine = Delivery.objects.using(using).filter(pk__in=pks)
            mine.update(attempts=F("attempts") - 1)

    def is_meant(self, row: Delivery, token: int) -> bool:
        """Return whether a message with this token may start the delivery, or this start has it."""
        if self.has(row):
            return True
        is_theirs = self.subscription in (None, row.subscription_id)
        return is_theirs and row.started_token < token <= row.token

    def values(self, *, using: str) -> tuple[Any, ...]:
        """Return the values of the start's columns."""
        return timestamp(self.at, using=using), self.worker, timestamp(self.until, using=using)

    def own(self, *, using: str) -> tuple[Any, ...]:
        """Return the values of the condition that this start has a delivery."""
        return self.values(using=using)[:2]

    def deliveries(self, rows: Rows, handler: str, *, using: str) -> list[Delivery]:
        """Return the deliveries of rows that this start returned."""
        facts = {row[:2] for row in rows}
        subscriptions = {
            pk: unhindered(pk, handler, failures=failures, using=using) for pk, failures in facts
        }
        make = partial(started, worker=self.worker, at=self.at, until=self.until, using=using)
        return [make(row[2:], subscriptions[row[0]]) for row in rows]


def start(
    handler: Handler,
    pairs: Sequence[Pair],
    *,
    worker: str,
    subscription: int | None = None,
    access: DatabaseAccess,
) -> list[Delivery]:
    """Store the start of a message's deliveries, attempt + 1 each; return those that may run.

    A delivery starts only if it is sent, and has not started since this message was sent. So a
    repeated message does nothing. A late one starts its delivery, although the relay has sent
    another message since: in a slow queue each message is late.

    Nearly always one UPDATE starts all of them. The others are locked and checked, and handed back
    if they must not run. Deliveries of another subscription than the message's are left untouched:
    after a database crash, ids of lost deliveries are assigned again while the broker still has the
    old messages.

    The UPDATE of a bulk handler that is ordered locks all its keys with one lock. The messages of
    another ordered handler are small, and two of them with different keys start at the same time.
    """
    using = access.using
    now = access.run(lambda: clock.now(using=using))
    lasts = duration(len(pairs), seconds=handler.lease)
    this = _Start(worker, now, lasts, subscription)
    # Before the first try: it may be stored, and its answer lost for longer than the lease.
    withdraw_deaths_later([pk for pk, _token in pairs], worker=worker, at=now, access=access)
    is_free = handler.bulk or not handler.ordered
    mine = _start_free(handler, pairs, this, access=access) if is_free else []
    ids = {row.id for row in mine}
    left = [pair for pair in pairs if pair[0] not in ids]
    if not left:
        return mine
    start_locked = partial(_start_locked, handler, left, this, using=using)
    try:
        return mine + access.run(start_locked)
    except Exception:
        if not mine:
            raise
        logger.exception(
            "Starting %d deliveries failed. A relay sends them again when their lease expires.",
            len(left),
        )
        return mine


def _start_free(
    handler: Handler, pairs: Sequence[Pair], this: _Start, *, access: DatabaseAccess
) -> list[Delivery]:
    """Start the deliveries that nothing prevents, by a statement that commits by itself."""
    using = access.using
    whose = "" if this.subscription is None else f" AND subscription_id = {this.subscription:d}"
    rest = reads_after_start(pairs, this.subscription, using=using)

    def send() -> list[Rows]:
        with this.tried(using=using), _start_transaction(handler, using=using):
            values = this.values(using=using)
            where, more = _unhindered(handler, this, using=using)
            statements = []
            for token, ids in by_token(pairs).items():
                free = f"id IN ({numbers(ids)}) AND {where}{whose}"
                text = f"{STARTED} WHERE {free}{RETURNING}"
                statements.append(Statement(text, (*values, token, *more)))
            rows = read_each(*statements, *rest, using=using)
            if handler.ordered:
                failpoints.reach(failpoints.BEFORE_START)
            return rows

    if not handler.ordered:  # its statement commits by itself
        failpoints.reach(failpoints.BEFORE_START)
    *found, found_held, found_events = access.run(send)
    mine = this.deliveries([*chain(*found)], handler.name, using=using)
    mine.sort(key=attrgetter("id"))
    events_by_seq = {one.seq: one for one in (EVENT.read(row, using=using) for row in found_events)}
    for row in mine:
        row.event = events_by_seq[row.event_id]
    if held_ids := {pk for (pk,) in found_held}:
        mine = _without_held(mine, held_ids, access=access)
    return [row for row in mine if not hand_back_unfit(handler, row, access=access)]


def _without_held(
    rows: Sequence[Delivery], held: Collection[int], *, access: DatabaseAccess
) -> list[Delivery]:
    """Hand back started deliveries whose handler was held while the start waited for locks."""
    for row in rows:
        if row.subscription_id in held:
            back = partial(settlement.hand_back_started, row, note=_HELD_NOTE, using=access.using)
            access.run(back)
    return [row for row in rows if row.subscription_id not in held]


def hand_back_unfit(handler: Handler, row: Delivery, *, access: DatabaseAccess) -> bool:
    """Hand back a started delivery that only another release can run; return if so."""
    note = access.run(lambda: _reason_against(handler, row, row.worker, using=access.using))
    if note:
        access.run(partial(settlement.hand_back_started, row, note=note, using=access.using))
    return bool(note)


def _unhindered(handler: Handler, this: _Start, *, using: str) -> tuple[str, tuple[Any, ...]]:
    """Return the condition of deliveries that nothing prevents, after the token's; its values."""
    where, values = (FREE, ()) if not this.is_doubtful else (FREE_OR_OURS, this.own(using=using))
    if not handler.ordered:
        return where, values
    return where.replace(UNORDERED, IN_TURN), (*values, handler.name)


@contextmanager
def _start_transaction(handler: Handler, *, using: str) -> Iterator[None]:
    """Open a transaction if one is needed, and lock all keys of an ordered handler in it."""
    # A savepoint within a caller's transaction (a test's, a dry run's).
    is_needed = handler.ordered or connections[using].in_atomic_block
    with transaction.atomic(using=using) if is_needed else nullcontext():
        if handler.ordered:
            lock_all_keys(handler.name, using=using)
        yield


def _start_locked(
    handler: Handler, pairs: Sequence[Pair], this: _Start, *, using: str
) -> list[Delivery]:
    tokens = dict(pairs)
    with this.tried(using=using), transaction.atomic(using=using):
        locked = _lock(tokens, using=using)
        rows = [row for row in locked if this.is_meant(row, tokens[row.id])]
        startable = _startable(rows, using=using)
        ids = {row.id for row in startable}  # comparing rows takes long
        this.give_back([row for row in rows if row.id not in ids], using=using)
        mine = _without_unfit(startable, handler, this, using=using)
        for row in mine:
            row.attempts += row.started_token < row.token
            row.started_token = row.token
            row.started_at, row.worker, row.due_at = this.at, this.worker, this.until
        if mine:
            where = f"id IN ({numbers(row.id for row in mine)})"
            execute(f"{STARTED} WHERE {where}", *this.values(using=using), using=using)
        failpoints.reach(failpoints.BEFORE_START)
    return mine


def _lock(ids: Iterable[int], *, using: str) -> list[Delivery]:
    """Lock and read deliveries, with their events and subscriptions."""
    where = f"d.id IN ({numbers(ids)}) AND d.{SENT} ORDER BY d.id"
    rows = read(f"{_DELIVERIES} WHERE {where}{locking(using=using, of=('d',))}", using=using)
    subscriptions: dict[int, Subscription] = {}  # one or a few; shared instances
    deliveries = []
    for row in rows:
        delivery = _D.read(row[: len(_D)], using=using)
        delivery.event = EVENT.read(row[len(_D) : -len(SUBSCRIPTION)], using=using)
        pk = delivery.subscription_id
        if pk not in subscriptions:
            subscriptions[pk] = SUBSCRIPTION.read(row[-len(SUBSCRIPTION) :], using=using)
        delivery.subscription = subscriptions[pk]
        deliveries.append(delivery)
    return deliveries


_HELD_NOTE = "its handler was paused, or its breaker opened, before it could start"
_D = Columns(Delivery, alias="d")
_DELIVERIES = f"""
SELECT {_D.text}, {EVENT.text}, {SUBSCRIPTION.text}
FROM outbox_delivery d
JOIN outbox_event e ON e.seq = d.event_id
JOIN outbox_subscription s ON s.id = d.subscription_id"""  # noqa: S608  names of our own models


def _without_unfit(
    rows: Sequence[Delivery], handler: Handler, this: _Start, *, using: str
) -> list[Delivery]:
    """Hand back deliveries that only another release can run; return the others."""
    notes = {row.pk: _reason_against(handler, row, this.worker, using=using) for row in rows}
    for row in rows:
        note = notes[row.pk]
        if note and this.has(row):
            settlement.hand_back_started(row, note=note, using=using)
        elif note:
            settlement.hand_back([(row.id, row.token)], note=note, using=using)
    return [row for row in rows if not notes[row.pk]]


def _reason_against(handler: Handler, row: Delivery, worker: str, *, using: str) -> str:
    """Return why only another release can run a delivery, or "".

    During a deploy, rows of the later release may select events that this one does not handle. If
    a release removes an event from a subscription to several events, its owed deliveries stay.
    """
    event = row.event
    if upcasting.is_newer(event):
        problem = f"cannot read version {event.version} of {event.name}"
    elif not handler.handles(event.name):
        if not _is_selected(row, using=using):
            end = end_command(handler.name, event.name)
            return f"{settlement.REMOVED}{event.name}; to end it: {end}"
        problem = f"does not handle {event.name} by {handler.name}"
    elif row.target and not handler.targets:
        problem = f"has {handler.name} without targets"
    else:
        return ""
    return f"{worker} {problem}; {settlement.OLDER_RELEASE}"


def _is_selected(row: Delivery, *, using: str) -> bool:
    """Return whether its subscription selects its event, by the release that was migrated last."""
    its = Subscription.objects.using(using).filter(pk=row.subscription_id)
    return any(selects(one, row.event.name) for one in its.values_list("event", flat=True))


def _startable(rows: Sequence[Delivery], *, using: str) -> list[Delivery]:
    """Return the deliveries that may start; park, hold back or block the others."""
    if not rows:
        return []
    behind = ordering.out_of_turn(rows, using=using)
    # Read after all waits for locks: the handler may have been paused meanwhile.
    _read_subscriptions(rows, using=using)
    settlement.park([row for row in rows if row.subscription.paused_at], using=using)
    rows = [row for row in rows if not row.subscription.paused_at]
    held = {row.pk for row in rows if breaker.holds(row)}
    if held:
        settlement.hold_back([row for row in rows if row.pk in held], using=using)
    rows = [row for row in rows if row.pk not in held]
    behind &= {row.pk for row in rows}
    if behind:
        blocked = [row for row in rows if row.pk in behind]
        ordering.block(blocked, using=using)
        breaker.replace_probe(blocked, using=using)
    return [row for row in rows if row.pk not in behind]


def _read_subscriptions(rows: Sequence[Delivery], *, using: str) -> None:
    ids = numbers({row.subscription_id for row in rows})
    found = read(
        f"SELECT {SUBSCRIPTION.text} FROM outbox_subscription s WHERE s.id IN ({ids})",  # noqa: S608  ours
        using=using,
    )
    subscriptions = {one.pk: one for one in (SUBSCRIPTION.read(row, using=using) for row in found)}
    for row in rows:
        row.subscription = subscriptions[row.subscription_id]
