"""Order per key: of a handler and a key, one delivery at a time, in the order of `seq`.

A *line* is a pair of an ordered handler and a key; over all events that the handler hears. In it
stands every delivery that is owed (its `order_key` is set), and every event that the handler hears
and that has no deliveries yet. Who is not the first of the line is BLOCKED. That is decided at
fan-out, asked again by the worker before it starts, and undone by the settlement of the first.

`first_of` reads the events before the deliveries. An event leaves the one set and enters the other
in one commit, so it may be seen twice, but never not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from django.db import connections, transaction
from django.db.models import F, Min

from outbox import clock, nudge
from outbox.models import Delivery, Event, Subscription

from .key_locks import lock_lines

State = Delivery.State

#: A handler's pinned name and a key.
OrderedKey = tuple[str, str]

NOTE = "an earlier event of its key is owed to this handler"

_LOOK_AGAIN = (timedelta(seconds=1), timedelta(minutes=5))
_LOOKED_AT_ONCE = 200
_CHANGED_AT_ONCE = 1000


def first_of(keys: Collection[str], *, handler: str = "", using: str) -> dict[OrderedKey, int]:
    """Return the `seq` of the first event of each line of these keys; an empty line is left out.

    Args:
        keys: the keys to look at.
        handler: of this handler alone; "": of all ordered ones.
        using: the outbox's database alias.
    """
    rows = Subscription.objects.using(using).filter(active=True, ordered=True)
    rows = rows.filter(handler=handler) if handler else rows
    ordered = list(rows.values_list("pk", "handler", "event"))
    handlers = {pk: name for pk, name, _ in ordered}
    found: list[tuple[OrderedKey, int]] = []
    for key, event, seq in _first_waiting(keys, {event for _, _, event in ordered}, using=using):
        found += [((name, key), seq) for _, name, heard in ordered if heard == event]
    for pk, key, seq in _first_owed(keys, handlers, using=using):
        found.append(((handlers[pk], key), seq))
    firsts: dict[OrderedKey, int] = {}
    for line, seq in found:
        firsts[line] = min(seq, firsts.get(line, seq))
    return firsts


def out_of_turn(rows: Sequence[Delivery], *, using: str) -> set[int]:
    """Return the ids of those deliveries that must not start now.

    They are not the first of their line, or a worker has another delivery of it in hand. That one
    can be of a later event: a replay, a retry of what was dead, and a backfill take their places
    in the line by `seq` while later deliveries are on their way.

    The lines stay locked until the caller's transaction ends, which starts the others. So no two
    starts of one line can miss each other.
    """
    in_line = {row: (row.subscription.handler, row.order_key) for row in rows if row.order_key}
    if not in_line:
        return set()
    lock_lines(set(in_line.values()), connection=connections[using])
    keys = {key for _handler, key in in_line.values()}
    firsts, busy = first_of(keys, using=using), _in_hand(keys, using=using)
    return {
        row.pk
        for row, line in in_line.items()
        if is_behind(row.event_id, firsts, line=line) or busy.get(line, row.pk) != row.pk
    }


def _in_hand(keys: Collection[str], *, using: str) -> dict[OrderedKey, int]:
    """Return by line the delivery that a worker has started; there is one at most."""
    started = Delivery.objects.using(using).filter(
        order_key__in=keys, state=State.SENT, started_token=F("token")
    )
    rows = started.values_list("subscription__handler", "order_key", "pk")
    return {(handler, key or ""): pk for handler, key, pk in rows}


def is_behind(seq: int, firsts: Mapping[OrderedKey, int], *, line: OrderedKey) -> bool:
    """Tell whether something of the line comes before an event."""
    return firsts.get(line, seq) < seq


def block(pks: Collection[int], *, using: str) -> None:
    """Take deliveries out of what is due until it is their turn. The caller holds their locks."""
    due_at = clock.now(using=using) + _LOOK_AGAIN[0]
    rows = Delivery.objects.using(using).filter(pk__in=pks)
    rows.update(state=State.BLOCKED, due_at=due_at, note=NOTE)


def release(line: OrderedKey, *, using: str) -> None:
    """Let the first of a line go on, if it is blocked.

    Call it when a delivery of the line is settled or no longer in hand, in that transaction.

    It cannot see what another transaction is about to commit: a delivery that is born blocked at
    this very moment. The relay looks again at what is blocked, soon and then ever more seldom.
    """
    handler, key = line
    first = first_of([key], handler=handler, using=using).get(line)
    mine = Subscription.objects.using(using).filter(handler=handler)
    blocked = Delivery.objects.using(using).filter(
        order_key=key, subscription__in=mine, event=first, state=State.BLOCKED
    )
    if blocked.update(state=State.PENDING, due_at=clock.now(using=using), note=""):
        transaction.on_commit(nudge.poke, using=using, robust=True)


def recheck(subscription: Subscription, *, now: datetime, using: str) -> int:
    """Free what is blocked for nothing, of what is due to be looked at; return how many.

    Each is looked at when it has waited for 1 s, 2 s, 4 s, ..., then every five minutes, so a long
    line behind a dead delivery costs next to nothing. The caller holds the subscription's lock.
    """
    rows = _to_look_at(subscription, now=now, using=using)
    handler, keys = subscription.handler, {row.event.key for row in rows}
    firsts = first_of(keys, handler=handler, using=using)
    busy = _in_hand(keys, using=using)
    free: list[Delivery] = []
    still: list[Delivery] = []
    for row in rows:
        line = (handler, row.event.key)
        waits = is_behind(row.event_id, firsts, line=line) or line in busy
        (still if waits else free).append(row)
        row.due_at = now + _until_next_look(now - (row.event.fanned_out_at or now))
    Delivery.objects.using(using).bulk_update(still, ["due_at"])
    pks = [row.pk for row in free]
    freed = Delivery.objects.using(using).filter(pk__in=pks)
    return freed.update(state=State.PENDING, due_at=now, note="")


def _to_look_at(row: Subscription, *, now: datetime, using: str) -> list[Delivery]:
    blocked = Delivery.objects.using(using).filter(subscription=row, state=State.BLOCKED)
    due = blocked.filter(due_at__lte=now).order_by("due_at").select_related("event")
    return list(due.select_for_update(of=("self",), skip_locked=True)[:_LOOKED_AT_ONCE])


def _until_next_look(waited: timedelta) -> timedelta:
    soonest, latest = _LOOK_AGAIN
    return min(max(waited, soonest), latest)


def first_check(now: datetime) -> datetime:
    """Return when a delivery that is born blocked is looked at for the first time."""
    return now + _LOOK_AGAIN[0]


def look_soon(keys: Collection[str], *, using: str) -> None:
    """Have the relay look again, at its next pass, at what is blocked of these keys.

    What another transaction has locked is left for the moment when the caller's has committed: two
    that discard deliveries of one key would wait for each other.
    """
    if keys:
        _make_due(keys, skip_locked=True, using=using)
        transaction.on_commit(partial(_make_due, keys, using=using), using=using, robust=True)


def _make_due(keys: Collection[str], *, skip_locked: bool = False, using: str) -> None:
    now = clock.now(using=using)
    deliveries = Delivery.objects.using(using)
    blocked = deliveries.filter(order_key__in=keys, state=State.BLOCKED, due_at__gt=now)
    with transaction.atomic(using=using):
        locked = blocked.order_by("pk").select_for_update(skip_locked=skip_locked)
        pks = list(locked.values_list("pk", flat=True))
        for start in range(0, len(pks), _CHANGED_AT_ONCE):
            some = pks[start : start + _CHANGED_AT_ONCE]
            deliveries.filter(pk__in=some).update(due_at=now)


def _first_waiting(
    keys: Collection[str], names: Collection[str], *, using: str
) -> list[tuple[str, str, int]]:
    waiting = Event.objects.using(using).filter(fanned_out_at=None, key__in=keys, name__in=names)
    firsts = waiting.order_by().values_list("key", "name").annotate(first=Min("seq"))
    return list(firsts)


def _first_owed(
    keys: Collection[str], subscriptions: Collection[int], *, using: str
) -> list[tuple[int, str, int]]:
    rows = Delivery.objects.using(using).filter(
        order_key__in=keys, subscription__in=list(subscriptions), state__in=Delivery.OWED
    )
    firsts = rows.order_by().values_list("subscription", "order_key").annotate(first=Min("event"))
    return [(pk, key or "", seq) for pk, key, seq in firsts]
