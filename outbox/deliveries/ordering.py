"""Order per key: one delivery at a time of a handler and a key, in the order of `seq`.

An *ordered key* is a pair of an ordered handler and a key, across all the handler's event names.
Outstanding are its owed deliveries (with an `order_key`), and its events that wait for fan-out.
Every delivery behind the first outstanding event is BLOCKED. Fan-out decides that, the worker
checks it again before the start, and settling the first delivery releases the next one.

`key_rows` reads the rows. A release costs the same number of statements for one key and for many.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from django.db import connections, transaction
from django.db.models import OuterRef, QuerySet, Subquery

from outbox import clock
from outbox.models import Delivery, Event, Subscription
from outbox.transports.nudge import nudge_of

from .key_locks import lock_ordered_keys
from .key_rows import OrderedKey, read_all, read_blocked, read_outstanding

State = Delivery.State

NOTE = "an earlier event of its key is owed to this handler"

_RECHECK_AFTER = (timedelta(seconds=1), timedelta(minutes=5))
#: Longest interval between two rechecks while more deliveries are due for one than a pass checks.
_LONGEST_RECHECK = timedelta(days=1)
#: Most blocked deliveries of a subscription that one pass checks.
_RECHECKED_AT_ONCE = 200
_CHANGED_AT_ONCE = 1000


def first_of(keys: Collection[str], *, handler: str = "", using: str) -> dict[OrderedKey, int]:
    """Return the `seq` of the first outstanding event by ordered key, if it has one.

    Args:
        keys: the keys to read.
        handler: only of this handler; "" means all ordered ones.
        using: the outbox's database alias.
    """
    return read_outstanding(keys, handler=handler, using=using).firsts() if keys else {}


def out_of_turn(rows: Sequence[Delivery], *, using: str) -> set[int]:
    """Return the ids of those deliveries that must not start now.

    They are not the first of their ordered key, or another delivery of it is running. The running
    one may be of a later event: replays, retries of dead deliveries, and backfills are ordered by
    `seq` while later deliveries are in flight.

    The ordered keys stay locked until the end of the caller's transaction, which starts the other
    deliveries. So two starts of one ordered key always see each other.
    """
    ordered_keys = {
        row.pk: (row.subscription.handler, row.order_key)
        for row in rows
        if row.order_key is not None
    }
    if not ordered_keys:
        return set()
    lock_ordered_keys(set(ordered_keys.values()), connection=connections[using])
    handlers = {handler for handler, _key in ordered_keys.values()}
    keys = {key for _handler, key in ordered_keys.values()}
    found = read_all(keys, handler=handlers.pop() if len(handlers) == 1 else "", using=using)
    firsts, running = found.firsts(), found.running_ids()
    return {
        row.pk
        for row in rows
        if (ordered_key := ordered_keys.get(row.pk))
        and (
            is_behind(row.event_id, firsts, ordered_key=ordered_key)
            or running.get(ordered_key, row.pk) != row.pk
        )
    }


def is_behind(seq: int, firsts: Mapping[OrderedKey, int], *, ordered_key: OrderedKey) -> bool:
    """Return whether the ordered key has an outstanding event before this one."""
    return firsts.get(ordered_key, seq) < seq


def block(rows: Collection[Delivery], *, using: str) -> None:
    """Block deliveries until it is their turn. The caller holds their locks."""
    due_at = clock.now(using=using) + _RECHECK_AFTER[0]
    pks = {row.pk for row in rows}
    blocked = Delivery.objects.using(using).filter(pk__in=pks)
    blocked.update(state=State.BLOCKED, due_at=due_at, note=NOTE)


def release(ordered_key: OrderedKey, *, using: str) -> None:
    """Make the first delivery of an ordered key due, if it is blocked.

    Call it in the transaction in which a delivery of the ordered key is settled or stops running.

    It cannot see uncommitted deliveries that another transaction is creating as blocked. For those,
    the relay rechecks blocked deliveries, soon and then at growing intervals.
    """
    handler, key = ordered_key
    release_keys(handler, [key], using=using)


def release_keys(handler: str, keys: Collection[str], *, using: str) -> None:
    """As `release`, for several keys of one handler; the number of statements is the same."""
    if len(keys) > 1:  # nearly always nothing waits behind any of them
        keys = read_blocked(keys, handler=handler, using=using)
    firsts = first_of(keys, handler=handler, using=using)
    if not firsts:
        return
    mine = Subscription.objects.using(using).filter(handler=handler)
    blocked = Delivery.objects.using(using).filter(
        order_key__in=[key for _handler, key in firsts],
        subscription__in=mine,
        event__in=list(firsts.values()),
        state=State.BLOCKED,
    )
    if blocked.update(state=State.PENDING, due_at=clock.now(using=using), note=""):
        transaction.on_commit(nudge_of(using), using=using, robust=True)


def recheck(subscription: Subscription, *, now: datetime, using: str) -> int:
    """Release deliveries that are blocked without need and due for a recheck; return how many.

    Each is rechecked at an age of 1 s, 2 s, 4 s, ..., then every five minutes. While more are due
    than a pass checks, the intervals go on growing, up to a day. So a long queue behind a dead
    delivery costs next to nothing, and delays the recheck of no other key for long. The caller
    holds the subscription's lock.
    """
    rows = _due_for_recheck(subscription, now=now, using=using)
    if not rows:
        return 0
    handler, are_many = subscription.handler, len(rows) >= _RECHECKED_AT_ONCE
    found = read_all({row.event.key for row in rows}, handler=handler, using=using)
    firsts, running = found.firsts(), found.running_ids()
    free: list[Delivery] = []
    still: list[Delivery] = []
    for row in rows:
        ordered_key = (handler, row.event.key)
        waits = is_behind(row.event_id, firsts, ordered_key=ordered_key) or ordered_key in running
        (still if waits else free).append(row)
        age = now - (row.event.fanned_out_at or now)
        row.due_at = now + _until_next_recheck(age, are_many=are_many)
    mine = Delivery.objects.using(using)
    mine.bulk_update(still, ["due_at"])
    freed = mine.filter(pk__in=[row.pk for row in free])
    return freed.update(state=State.PENDING, due_at=now, note="")


def _due_for_recheck(row: Subscription, *, now: datetime, using: str) -> list[Delivery]:
    mine = Delivery.objects.using(using).filter(subscription=row)
    blocked = mine.filter(state=State.BLOCKED)
    due = blocked.filter(due_at__lte=now).select_related("event")
    due = due.select_for_update(of=("self",), skip_locked=True)
    half = _RECHECKED_AT_ONCE // 2
    oldest = list(due.order_by("due_at")[:half])
    if len(oldest) < half:
        return oldest
    # Also the newest: a long queue of one key must not delay a delivery that was blocked just now.
    others = due.exclude(pk__in=[row.pk for row in oldest])
    return [*oldest, *others.order_by("-due_at")[:half]]


def _until_next_recheck(age: timedelta, *, are_many: bool) -> timedelta:
    shortest, longest = _RECHECK_AFTER
    return min(max(age, shortest), _LONGEST_RECHECK if are_many else longest)


def first_check(now: datetime) -> datetime:
    """Return the time of the first recheck of a delivery that is created as blocked."""
    return now + _RECHECK_AFTER[0]


def recheck_soon(keys: Collection[str], *, using: str) -> None:
    """Release the next deliveries of these keys after the caller's commit.

    Not before it: two transactions that discard deliveries of one key would wait for each other.
    If the process ends with its commit, the relay rechecks the keys in its next pass.
    """
    if keys:
        _make_due(keys, using=using)
        transaction.on_commit(partial(_release_each, keys, using=using), using=using, robust=True)


def _release_each(keys: Collection[str], *, using: str) -> None:
    """Release one key after the other: who waits for a lock then holds no other one."""
    for ordered_key in first_of(keys, using=using):
        release(ordered_key, using=using)


def _make_due(keys: Collection[str], *, using: str) -> None:
    now = clock.now(using=using)
    deliveries = Delivery.objects.using(using)
    blocked = deliveries.filter(order_key__in=keys, state=State.BLOCKED, due_at__gt=now)
    locked = blocked.order_by("pk").select_for_update(skip_locked=True)
    pks = list(locked.values_list("pk", flat=True))
    for start in range(0, len(pks), _CHANGED_AT_ONCE):
        some = pks[start : start + _CHANGED_AT_ONCE]
        deliveries.filter(pk__in=some).update(due_at=now)


def set_order_keys(row: Subscription, *, using: str) -> None:
    """Set or clear the order key of owed deliveries, depending on `row.ordered`.

    It blocks none of them, since a worker checks the order before it starts a delivery.
    """
    owed = Delivery.objects.using(using).filter(subscription=row, state__in=Delivery.OWED)
    if row.ordered:
        owed.update(order_key=_key_of_event(using=using))
    if not row.ordered or row.on_dead == Subscription.OnDead.PASS:
        unordered = owed.filter(state=State.DEAD) if row.ordered else owed
        unordered.update(order_key=None)
    blocked = owed.filter(state=State.BLOCKED)
    blocked.update(due_at=clock.now(using=using))  # the relay rechecks them
    if not row.ordered:
        blocked.update(state=State.PENDING, note="")


def lacks_order_keys(row: Subscription, *, using: str) -> bool:
    """Return whether a delivery of an ordered handler that may still run has no order key.

    A dead one may have none: with `on_dead="pass"`, or for want of a settlement, it holds no key.
    Cost: it reads the owed deliveries of the subscription.
    """
    alive = [state for state in Delivery.OWED if state != State.DEAD]
    return row.ordered and any(
        _without_order_key(row, state, using=using).exists() for state in alive
    )


def set_missing_order_keys(row: Subscription, *, using: str) -> None:
    """Set the order key of those owed deliveries of an ordered handler that have none."""
    passes = row.on_dead == Subscription.OnDead.PASS
    for state in Delivery.OWED if row.ordered else ():
        if not (passes and state == State.DEAD):
            _without_order_key(row, state, using=using).update(order_key=_key_of_event(using=using))


def _without_order_key(row: Subscription, state: State, *, using: str) -> QuerySet[Delivery]:
    # By state, since the indexes of owed deliveries have one each.
    mine = Delivery.objects.using(using).filter(subscription=row, state=state)
    return mine.filter(order_key=None)


def _key_of_event(*, using: str) -> Subquery:
    return Subquery(Event.objects.using(using).filter(pk=OuterRef("event")).values("key"))
