"""Merge or split subscription rows of one handler.

Rows are merged after a rename was rolled back and released again: meanwhile both names were owed
the same events. For each event, the delivery that made more progress stays. So no event is handled
twice, and none is lost. The rows of a handler are merged, too, if it now subscribes by patterns or
in bulk, with one row for all its events. Its row is split if it has one row for each event again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from datetime import datetime
from functools import partial

from django.db import OperationalError, transaction
from django.db.models import F, Q, QuerySet

from outbox import clock
from outbox.events import SEPARATOR, has_several_events, is_pattern, selects
from outbox.formatting import one_line
from outbox.models import Delivery, Subscription
from outbox.subscriptions import Handler, registry

from . import breaker
from .locks import is_lock_timeout, lock_subscriptions
from .ordering import set_order_keys
from .shares import set_shares

logger = logging.getLogger("outbox.sync")

State = Delivery.State

_LOCK_TRIES = 20


class NamesNotJoined(OperationalError):
    """Two subscriptions of a handler were not joined, because a lock was not free in time.

    It is transient if the database error that caused it is transient.
    """


def join_names(*, using: str) -> None:
    """Merge, for each handler and event, the rows of its present and former names into one.

    Each pair is merged in a transaction that locks no other subscription, since it may have to
    wait for a worker that is running a delivery of the pair.
    """
    for handler in registry:
        rows = Subscription.objects.using(using).filter(handler__in=names_of(handler))
        stored = list(rows.order_by("id"))
        for selector in handler.selectors:
            found = rows_of(handler, selector, stored)
            for former in found[1:]:
                _join_or_explain(former, found[0], using=using)


def rows_of(handler: Handler, selector: str, stored: Iterable[Subscription]) -> list[Subscription]:
    """Return those stored rows whose deliveries belong to one of the handler's subscriptions.

    The first one is kept: under the handler's present name and with this selector if there is one.
    """
    names = names_of(handler)
    rows = [row for row in stored if row.handler in names]
    found = [row for row in rows if row.event == selector]
    if has_several_events(selector):
        found = [row for row in rows if row.has_several_events or selects(selector, row.event)]
    return sorted(found, key=lambda row: (names.index(row.handler), row.event != selector, row.pk))


def names_of(handler: Handler) -> list[str]:
    """Return the handler's present and former names."""
    return list(dict.fromkeys([handler.name, *handler.formerly]))


def split_rows(*, using: str) -> None:
    """Move deliveries from the row of several events to the rows of each event.

    Call it after the rows of each event were created. Other deliveries stay where they are.
    """
    for handler in registry:
        if not any(map(has_several_events, handler.selectors)):
            rows = Subscription.objects.using(using).filter(handler__in=names_of(handler))
            for row in rows.order_by("id"):
                if row.has_several_events:
                    _split(row, handler, using=using)


def _split(several: Subscription, handler: Handler, *, using: str) -> None:
    with transaction.atomic(using=using):
        mine = Subscription.objects.using(using)
        is_mine = Q(pk=several.pk) | Q(handler=handler.name, event__in=handler.selectors)
        locked = list(mine.filter(is_mine).order_by("id").select_for_update(no_key=True))
        old = next((row for row in locked if row.pk == several.pk), None)
        rows = [row for row in locked if row is not old]
        if old is None or not rows:
            return
        _wait_for_workers(locked, using=using)
        lock_subscriptions(using=using, tries=_LOCK_TRIES)
        for row in rows:
            _leave_one_each(old, row, using=using)
            _move(old, row, using=using, event__name=row.event)
            set_order_keys(row, using=using)
            set_shares(row, using=using)
        _narrow(old, {row.event for row in rows}, using=using)


def _narrow(old: Subscription, names: Collection[str], *, using: str) -> None:
    """Let a row of several events select no event that has a row of its own.

    Otherwise each later event would have a second delivery, which stays parked.
    """
    parts = [part for part in old.event.split(SEPARATOR) if part not in names]
    if any(map(is_pattern, parts)):
        parts += [f"!{name}" for name in sorted(names) if selects(SEPARATOR.join(parts), name)]
    if any(not part.startswith("!") for part in parts):
        old.event = SEPARATOR.join(parts)
        old.save(using=using, update_fields=["event"])
    elif not Delivery.objects.using(using).filter(subscription=old).exists():
        old.delete(using=using)


def _join_or_explain(former: Subscription, kept: Subscription, *, using: str) -> None:
    """Merge a row into another one.

    Raises:
        NamesNotJoined: another transaction holds a lock for too long. Nothing of the pair changed.
    """
    try:
        _join_pair(former.pk, kept.pk, using=using)
    except OperationalError as error:
        if not is_lock_timeout(error):
            raise
        why = one_line(str(error))
        raise _not_joined(former, kept, why=why) from error.__cause__ or error


def _not_joined(former: Subscription, kept: Subscription, *, why: str) -> NamesNotJoined:
    names, event = f"{former.handler} and {kept.handler}", former.event
    return NamesNotJoined(
        f"The subscriptions of {names} to {event} are not joined: another transaction "
        f"holds a lock that this needs ({why}). Neither was changed. End that "
        "transaction (`manage.py outbox doctor` lists long transactions and waiting sessions), "
        "then run `manage.py migrate` again."
    )


def _join_pair(former: int, kept: int, *, using: str) -> None:
    with transaction.atomic(using=using):
        pair = Subscription.objects.using(using).filter(pk__in=(former, kept)).order_by("id")
        locked = {row.pk: row for row in pair.select_for_update(no_key=True)}
        if len(locked) == 2:  # otherwise another migrate was faster
            old, row = locked[former], locked[kept]
            done = partial(logger.info, "%s takes over from %s", row.handler, old.handler)
            transaction.on_commit(done, using=using)
            _join(old, row, using=using)


def _join(old: Subscription, row: Subscription, *, using: str) -> None:
    _wait_for_workers((old, row), using=using)
    # From here on, no relay creates a delivery for the old row.
    lock_subscriptions(using=using, tries=_LOCK_TRIES)
    _leave_one_each(old, row, using=using)
    _move(old, row, using=using)
    # A row of several events counts from when it selected all of them.
    since = (min if old.event == row.event else max)(old.since, row.since)
    _select_both(row, old)
    _inherit(row, old, since=since, using=using)
    old.delete(using=using)
    set_order_keys(row, using=using)
    set_shares(row, using=using)


def _select_both(row: Subscription, old: Subscription) -> None:
    """Let the row that stays select the events of the other one, from this transaction on.

    It selects no others yet: they may still have rows of their own, which are merged next.
    """
    if old.active and old.event != row.event:
        mine = row.event.split(SEPARATOR) if row.active else []
        row.event = SEPARATOR.join(dict.fromkeys([*mine, *old.event.split(SEPARATOR)]))


def _wait_for_workers(rows: Iterable[Subscription], *, using: str) -> None:
    """Lock the deliveries in flight. Do so before the table lock, which blocks all relays.

    The relay sends no further ones, because the caller has locked the two subscriptions.
    """
    deliveries = Delivery.objects.using(using).filter(subscription__in=rows, state=State.SENT)
    list(deliveries.order_by("id").select_for_update().values_list("pk", flat=True))


def _leave_one_each(old: Subscription, row: Subscription, *, using: str) -> None:
    """Delete one of the two deliveries of each event that is owed to both rows."""
    deliveries = Delivery.objects.using(using)
    old_events = deliveries.filter(subscription=old).values("event")
    shared = deliveries.filter(subscription=row, event__in=old_events)
    pairs: dict[tuple[int, str], list[Delivery]] = {}
    rows = deliveries.filter(
        subscription__in=(old, row), event__in=list(shared.values_list("event", flat=True))
    ).order_by("id")
    for one in rows.select_for_update():
        pairs.setdefault((one.event_id, one.target), []).append(one)
    progress = partial(_progress, new=row)
    dropped = [min(pair, key=progress).pk for pair in pairs.values() if len(pair) == 2]
    deliveries.filter(pk__in=dropped).delete()


def _progress(delivery: Delivery, *, new: Subscription) -> tuple[int, bool]:
    """Return a delivery's progress: done, running, tried or sent, not tried, discarded."""
    if delivery.state == State.DONE:
        progress = 4
    elif delivery.is_started:
        progress = 3
    elif delivery.state == State.DISCARDED:
        progress = 0
    else:
        progress = 2 if delivery.attempts or delivery.state == State.SENT else 1
    return progress, delivery.subscription_id == new.pk


def _move(old: Subscription, row: Subscription, *, using: str, **only: object) -> None:
    deliveries: QuerySet[Delivery] = Delivery.objects.using(using)
    moved = deliveries.filter(subscription=old, **only)
    # Messages of sent deliveries name the old row, so these deliveries are sent again.
    sent = moved.filter(state=State.SENT, started_token__lt=F("token"))
    sent.update(
        state=State.PENDING,
        due_at=clock.now(using=using),
        note="the two names of its handler were joined",
    )
    moved.update(subscription=row)


def _inherit(row: Subscription, old: Subscription, *, since: datetime, using: str) -> None:
    """Copy the state that staff and workers stored in the old row.

    The result is active if either row is, since that row is owed events. A pause or an open
    breaker of either row holds the handler: staff resume it, and a probe closes the breaker.

    Args:
        row: the row that stays.
        old: the row that is deleted.
        since: the time since which the result selects its events, if both rows are active.
        using: the outbox's database alias.
    """
    if old.active:
        row.since = since if row.active else old.since
        row.active = True
    if _weight_of_pause(old) > _weight_of_pause(row):
        _copy(_PAUSE, old, row)
    if (old.breaker_opened_at is not None, old.breaker_failures) > (
        row.breaker_opened_at is not None,
        row.breaker_failures,
    ):
        _copy(breaker.CLOSED, old, row)
        row.window_now = min(row.window_now, old.window_now)
    row.known = True  # this code has the handler
    row.leases_lost += old.leases_lost
    row.save(using=using)


def _weight_of_pause(row: Subscription) -> int:
    """Return 0 for no pause, 1 for a backfill's, which the backfill ends, 2 for any other."""
    is_own = row.paused_by.startswith(Subscription.PAUSED_BY_BACKFILL)
    return 0 if row.paused_at is None else 1 if is_own else 2


_PAUSE = ("paused_at", "paused_by", "pause_reason")


def _copy(names: Iterable[str], old: Subscription, row: Subscription) -> None:
    for name in names:
        setattr(row, name, getattr(old, name))
