"""What a person may do: retry, pause, resume, prune. The admin and the command call this.

Each action says in the log (`outbox.actions`) who did what and why.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from . import nudge
from .models import Delivery, Subscription
from .retention import countable, prunable, prune
from .subscriptions import find

__all__ = [
    "UnknownHandler",
    "countable",
    "pause",
    "prunable",
    "prune",
    "resume",
    "retry",
    "retryable",
    "subscriptions_of",
]

logger = logging.getLogger(__name__)

State = Delivery.State

_RETRYABLE = (State.DEAD, State.PENDING, State.PARKED)
_RETRIED_AT_ONCE = 500


def retry(
    deliveries: QuerySet[Delivery] | Iterable[int], *, by: str, using: str = "default"
) -> int:
    """Make deliveries due now, those that `retryable` names; leave all others alone.

    A dead one gets its full number of attempts again; the failed ones stay on record. Done in
    several transactions when there are many, unless the caller has opened one.

    Args:
        deliveries: a queryset of them, or their ids.
        by: who wants it, for example "user:7" or "cli:ann".
        using: the outbox's database alias.

    Returns:
        How many are due now because of this.
    """
    ids = _ids(deliveries)
    retried = [pk for some in _slices(ids) for pk in _retry_some(some, by=by, using=using)]
    if retried:
        shown = ", ".join(map(str, retried[:20])) + (", ..." if len(retried) > 20 else "")
        logger.info("%s retried deliveries (%d): %s", by, len(retried), shown)
        _nudge(using=using)
    return len(retried)


def retryable(*, using: str = "default") -> QuerySet[Delivery]:
    """Return what `retry` would touch: dead, waiting for its next attempt, or parked for nothing.

    Not what is sent (it is in a worker's hands), is due already, or is parked for a handler that
    is paused or unknown (resume or deploy the handler).
    """
    active = Subscription.objects.using(using).filter(active=True)
    held = _pks(active.exclude(paused_at=None, known=True))
    # By exclusion: SQLite's planner fails on a disjunction of states that partial indexes match.
    return (
        Delivery.objects.using(using)
        .filter(subscription__in=_pks(active), state__in=_RETRYABLE)
        .exclude(state=State.PENDING, due_at__lte=timezone.now())
        .exclude(state=State.PARKED, subscription__in=held)
    )


def pause(handler: str, *, by: str, reason: str, using: str = "default") -> int:
    """Start none of a handler's deliveries from now on; they are parked, and delay no other's.

    What a worker has started goes on to its end. Pausing a paused handler changes nothing: the
    first person's reason stays.

    Args:
        handler: its pinned name.
        by: who pauses it.
        reason: why, for whoever finds it paused.
        using: the outbox's database alias.

    Returns:
        How many of its subscriptions were running and are paused now; 0: it was paused already.

    Raises:
        UnknownHandler: no subscription has this handler.
    """
    running = subscriptions_of(handler, using=using).filter(paused_at=None)
    changed = running.update(paused_at=timezone.now(), paused_by=by[:150], pause_reason=reason)
    if changed:
        logger.info("%s paused %s: %s", by, handler, reason)
        _nudge(using=using)
    return changed


def resume(handler: str, *, by: str, using: str = "default") -> int:
    """Let a paused handler go on; the relay sends what was parked, the oldest first.

    Args:
        handler: its pinned name.
        by: who resumes it.
        using: the outbox's database alias.

    Returns:
        How many of its subscriptions were paused and run now; 0: it was not paused.

    Raises:
        UnknownHandler: no subscription has this handler.
    """
    paused = subscriptions_of(handler, using=using).exclude(paused_at=None)
    changed = paused.update(paused_at=None, paused_by="", pause_reason="")
    if changed:
        logger.info("%s resumed %s", by, handler)
        _nudge(using=using)
    return changed


def subscriptions_of(handler: str, *, using: str = "default") -> QuerySet[Subscription]:
    """Return a handler's subscriptions by its pinned name; raise `UnknownHandler` for none."""
    every = Subscription.objects.using(using)
    rows = every.filter(handler=handler)
    if not rows.exists():
        raise UnknownHandler(handler, known=set(every.values_list("handler", flat=True)))
    return rows


class UnknownHandler(LookupError):
    """No subscription has a handler of this name."""

    def __init__(self, handler: str, *, known: Iterable[str]) -> None:
        close = get_close_matches(handler, sorted(known), n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        if find(handler):
            hint = " The code has it, but its subscriptions are not stored yet: run migrate."
        super().__init__(f"No subscription has the handler {handler}.{hint}")


def _ids(deliveries: QuerySet[Delivery] | Iterable[int]) -> list[int]:
    if isinstance(deliveries, QuerySet):
        return list(deliveries.order_by("pk").values_list("pk", flat=True))
    return sorted(set(deliveries))


def _slices(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), _RETRIED_AT_ONCE):
        yield ids[start : start + _RETRIED_AT_ONCE]


def _retry_some(ids: Sequence[int], *, by: str, using: str) -> list[int]:
    with transaction.atomic(using=using):
        # Locked in the order of ids, as workers do: two people who retry the same do not deadlock.
        locked = retryable(using=using).filter(pk__in=ids).order_by("pk").select_for_update()
        pks = _pks(locked)
        chosen = Delivery.objects.using(using).filter(pk__in=pks)
        chosen.filter(state=State.DEAD).update(attempts=0)
        note = f"retried by {by}"[:300]
        chosen.update(state=State.PENDING, due_at=timezone.now(), note=note)
    return pks


def _pks(rows: QuerySet[Delivery] | QuerySet[Subscription]) -> list[int]:
    return list(rows.values_list("pk", flat=True))


def _nudge(*, using: str) -> None:
    transaction.on_commit(nudge.poke, using=using, robust=True)
