"""Priorities: send the deliveries of tasks with a higher priority first.

The relay stores the priority of a task's event with its delivery, and claims by an index in this
order. Deliveries of handlers have no priority, and their claims do not read it.
"""

from __future__ import annotations

from datetime import datetime

from django.db import connections

from outbox.models import Subscription

from .statements import Rows, Statement, locking, read_each, timestamp


def claimable(row: Subscription, *, limit: int, now: datetime, using: str) -> Rows:
    """Lock and return deliveries that are due, the highest priority first.

    Each is its id, token and attempts.

    Deliveries of one priority are returned in the order of `due_at`. Those without one are last: a
    relay of an earlier release, or a backfill, has created them.

    Args:
        row: a subscription with priorities, locked.
        limit: maximum number of deliveries.
        now: only deliveries that are due by then.
        using: the outbox's database alias.
    """
    found: Rows = []
    for condition, order in (
        ("IS NOT NULL", "priority DESC, due_at, id"),
        ("IS NULL", "due_at, id"),
    ):
        if len(found) < limit:
            text = _DUE.format(condition=condition, order=order)
            text += locking(using=using, skip_locked=True)
            values = (row.pk, timestamp(now, using=using), limit - len(found))
            (rows,) = read_each(Statement(text, values, is_page=True), using=using)
            found += rows
    return found


def of_event(seq: str, *, using: str) -> str:
    """Return the SQL expression of the priority of a task's event.

    Args:
        seq: the SQL expression of the event's `seq`.
        using: the outbox's database alias.
    """
    field = "json_extract(e.payload, '$.priority')"
    if connections[using].vendor == "postgresql":
        field = "(e.payload ->> 'priority')::smallint"
    where = f"e.seq = {seq}"
    return f"(SELECT coalesce({field}, 0) FROM outbox_event e WHERE {where})"  # noqa: S608  ours


_DUE = """
SELECT id, token, attempts FROM outbox_delivery
WHERE subscription_id = %s AND state = 'pending' AND priority {condition} AND due_at <= %s
ORDER BY {order} LIMIT %s"""
