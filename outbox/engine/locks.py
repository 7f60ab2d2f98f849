"""Row and table locks that the relay, operations, redaction and retention have in common.

A statement that waits for a lock sees the locked rows as they are afterwards, but everything else
(a joined table, an EXISTS) as it was when the statement began. So take the lock first, and read
what the decision depends on in a statement of its own.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import F

from outbox.models import Delivery


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
