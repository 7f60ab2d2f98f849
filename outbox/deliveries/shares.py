"""Shares: limit how many deliveries of one owner or tenant a handler has in flight.

An event's class names its share by fields (`share="owner:{owner_id}"`). The share is stored with
the event and with each delivery of a handler that has a `share_window`. The relay counts the
deliveries in flight by share. It holds the subscription's lock meanwhile, as for the whole window.

The backlog is read share by share, a few rows of each, by an index in this order. So a million
deliveries of one owner do not delay the first one of another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from django.db import connections

from outbox.models import Subscription

from .statements import locking, read, timestamp


class Due(NamedTuple):
    """A due delivery and its share; None means that its event has none: no limit applies."""

    id: int
    token: int
    attempts: int
    share: str | None


#: Last share that this process claimed from, by subscription: round robin over the shares.
_stopped_at: dict[int, str] = {}


def in_flight(row: Subscription, *, now: datetime, using: str) -> Counter[str]:
    """Return the number of a subscription's deliveries in flight, by share."""
    found = read(_IN_FLIGHT, row.pk, timestamp(now, using=using), using=using)
    return Counter(dict(found))


def claimable(
    row: Subscription, sent: Mapping[str, int], *, limit: int, now: datetime, using: str
) -> list[Due]:
    """Lock and return deliveries that are due and whose shares have room.

    Args:
        row: a subscription with a `share_window`, locked.
        sent: number of deliveries in flight, by share.
        limit: maximum number of deliveries.
        now: only deliveries that are due by then.
        using: the outbox's database alias.
    """
    most = row.share_window or 1
    full = [share for share, number in sent.items() if number >= most]
    start = _stopped_at.get(row.pk, "")
    found = _read(row, most, full, start, limit, now, using=using)
    if len(found) < limit and start:
        taken = {one.id for one in found}
        again = _read(row, most, full, "", limit, now, using=using)
        found += [one for one in again if one.id not in taken]
    chosen = _within(found, sent, most=most)[:limit]
    shares = [one.share for one in chosen if one.share is not None]
    _stopped_at[row.pk] = shares[-1] if len(chosen) == limit and shares else ""
    return chosen


def _within(found: Iterable[Due], sent: Mapping[str, int], *, most: int) -> list[Due]:
    """Leave out deliveries for which their share has no room."""
    counted, chosen = Counter(sent), []
    for one in found:
        if one.share is None or counted[one.share] < most:
            counted[one.share or ""] += one.share is not None
            chosen.append(one)
    return chosen


def _read(
    row: Subscription,
    most: int,
    full: list[str],
    after: str,
    limit: int,
    now: datetime,
    *,
    using: str,
) -> list[Due]:
    """Read due deliveries of the shares after `after`, in order, then those without a share."""
    at = timestamp(now, using=using)
    if connections[using].vendor == "postgresql":
        values = (row.pk, after, row.pk, row.pk, at, most, full, limit)
        found = read(_BY_SHARE, *values, using=using)
    else:
        statement = _BY_RANK.format(full="".join([", %s"] * len(full)))
        found = read(statement, row.pk, at, after, *full, most, limit, using=using)
    if len(found) < limit:
        lock = locking(using=using, skip_locked=True)
        found += read(f"{_WITHOUT_SHARE}{lock}", row.pk, at, limit - len(found), using=using)
    return [Due(*one) for one in found]


_IN_FLIGHT = """
SELECT share, count(*) FROM outbox_delivery
WHERE subscription_id = %s AND state = 'sent' AND due_at > %s AND share IS NOT NULL GROUP BY share
"""
# `shares` walks from one share to the next by the index outbox_delivery_share, a probe for each.
_BY_SHARE = """
WITH RECURSIVE shares AS (
    (SELECT d.share FROM outbox_delivery d
     WHERE d.subscription_id = %s AND d.state = 'pending' AND d.share > %s
     ORDER BY d.share LIMIT 1)
    UNION ALL
    SELECT (SELECT d.share FROM outbox_delivery d
            WHERE d.subscription_id = %s AND d.state = 'pending' AND d.share > shares.share
            ORDER BY d.share LIMIT 1)
    FROM shares WHERE shares.share IS NOT NULL
)
SELECT one.* FROM shares, LATERAL (
    SELECT d.id, d.token, d.attempts, d.share FROM outbox_delivery d
    WHERE d.subscription_id = %s AND d.state = 'pending' AND d.share = shares.share
    AND d.due_at <= %s
    ORDER BY d.due_at, d.id LIMIT %s FOR UPDATE SKIP LOCKED
) one
WHERE shares.share <> ALL(%s) LIMIT %s
"""
# SQLite has no LATERAL, so it ranks all due deliveries.
_BY_RANK = """
SELECT id, token, attempts, share FROM (
    SELECT d.id, d.token, d.attempts, d.share, d.due_at,
        row_number() OVER (PARTITION BY d.share ORDER BY d.due_at, d.id) AS place
    FROM outbox_delivery d
    WHERE d.subscription_id = %s AND d.state = 'pending' AND d.due_at <= %s
    AND d.share > %s AND d.share NOT IN (''{full})
)
WHERE place <= %s ORDER BY share, place LIMIT %s
"""
_WITHOUT_SHARE = """
SELECT d.id, d.token, d.attempts, d.share FROM outbox_delivery d
WHERE d.subscription_id = %s AND d.state = 'pending' AND d.share IS NULL AND d.due_at <= %s
ORDER BY d.due_at, d.id LIMIT %s"""
