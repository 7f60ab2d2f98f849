"""Row and table locks that the relay, operations, redaction and retention have in common.

A statement that waits for a lock sees the locked rows as they are afterwards, but everything else
(a joined table, an EXISTS) as it was when the statement began. So take the lock first, and read
what the decision depends on in a statement of its own.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db import connections
from django.db.models import F

from outbox.models import Delivery


def lock_subscriptions(*, using: str) -> None:
    """Wait for every transaction that acts on subscriptions, and keep new ones out.

    For a change of who is owed which event: until the caller's transaction ends, no relay makes a
    delivery and nobody replays one. Emitting, and handlers that run, go on. SQLite has one writer
    anyway.
    """
    _lock_table("EXCLUSIVE", using=using)


def share_subscriptions(*, using: str) -> None:
    """Keep `lock_subscriptions` out until the caller's transaction ends.

    Relays have this lock by their own statements. Whoever else makes a delivery owed takes it, and
    then asks whether the subscription is active.
    """
    _lock_table("ROW SHARE", using=using)


def _lock_table(mode: str, *, using: str) -> None:
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE outbox_subscription IN {mode} MODE")


def lock_deliveries(seqs: Collection[int], *, using: str) -> list[tuple[int, int, str]]:
    """Lock all deliveries of some events.

    The caller has locked the events. So no delivery can be added to them meanwhile.

    Args:
        seqs: the events' `seq`.
        using: the outbox's database alias.

    Returns:
        (delivery id, event seq, state) of each delivery, read under its lock.
    """
    # In the order of ids, like every code that locks several deliveries. `+ 0`: asked for the
    # plain order, the planner may walk the whole primary key.
    rows = Delivery.objects.using(using).filter(event__in=seqs).order_by(F("id") + 0)
    return list(rows.select_for_update().values_list("id", "event_id", "state"))
