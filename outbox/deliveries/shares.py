"""Shares: limit how many deliveries of one owner or tenant a handler has in flight.

An event's class names its share by fields (`share="owner:{owner_id}"`). The share is stored with
the event and with each delivery of a handler that has a `share_window`. The relay counts the
deliveries in flight by share. It holds the subscription's lock meanwhile, as for the whole window.

The backlog is read share by share, a few rows of each, by an index in this order. So a million
deliveries of one owner do not delay the first one of another.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import OuterRef, Subquery

from outbox.models import Delivery, Event, Subscription

from .statements import locking, read, timestamp


class Due(NamedTuple):
    """A due delivery and its share; None means that its event has none: no limit applies."""

    id: int
    token: int
    attempts: int
    share: str | None


#: Last share that this process claimed from, by database and subscription: round robin.
_stopped_at: dict[tuple[str, int], str] = {}


def in_flight(row: Subscription, *, using: str) -> Counter[str]:
    """Return the number of a subscription's deliveries in flight, by share."""
    text = f"{_IN_FLIGHT} GROUP BY share\n"
    found = read(text, row.pk, using=using)
    return Counter(dict(found))


def claimable(
    row: Subscription,
    sent: Mapping[str, int],
    *,
    limit: int,
    now: datetime,
    using: str,
) -> list[Due]:
    """Lock and return deliveries that are due and whose shares have room.

    The shares after the one of the last `end_turn` are first.

    Args:
        row: a subscription with a `share_window`, locked.
        sent: number of deliveries in flight, by share.
        limit: maximum number of deliveries.
        now: only deliveries that are due by then.
        using: the outbox's database alias.
    """
    start = _stopped_at.get((using, row.pk), "")
    chosen: dict[int, Due] = {}
    for had, level in pairwise(_levels(row.share_window or 1)):
        for after in (start, "") if start else ("",):
            found = _read(
                row, sent, had, level, after, limit - len(chosen), is_first=not had, now=now,
                using=using,
            )  # fmt: skip
            chosen.update((one.id, one) for one in found)
    return list(chosen.values())


def end_turn(row: Subscription, last: str | None, *, using: str) -> None:
    """Let the next claim of this process begin behind a share: round robin.

    Args:
        row: a subscription with a `share_window`, locked.
        last: the share of the last delivery that is sent. None: begin with the first share, since
            all that may be sent is sent.
        using: the outbox's database alias.
    """
    _stopped_at[using, row.pk] = last or ""


def set_shares(row: Subscription, *, using: str) -> None:
    """Set or clear the share of owed deliveries, depending on `row.share_window`.

    The share of a target stays. Without one, a delivery has the share of its event.
    """
    owed = Delivery.objects.using(using).filter(subscription=row, state__in=Delivery.OWED)
    of_event = Event.objects.using(using).filter(pk=OuterRef("event")).values("share")
    if row.share_window:
        owed.filter(share=None).update(share=Subquery(of_event))
    else:
        owed.update(share=None)


def _levels(most: int) -> list[int]:
    """Return 0, 1, 2, 4 and so on up to `most`.

    Each share is filled up to one level before any is filled up to the next one. So free places go
    to the shares that have least in flight.
    """
    levels = [0, 1]
    while levels[-1] < most:
        levels.append(min(levels[-1] * 2, most))
    return levels


def _read(
    row: Subscription,
    sent: Mapping[str, int],
    had: int,
    level: int,
    after: str,
    limit: int,
    *,
    is_first: bool,
    now: datetime,
    using: str,
) -> list[Due]:
    """Read due deliveries of the shares after `after`, by share.

    Of each share, read as many as raise its number in flight from `had` to `level`. More of one
    share would use up the limit, and the shares behind it would not be read. Where `is_first`,
    deliveries without a share follow.
    """
    if not limit:
        return []
    at = timestamp(now, using=using)
    flying = json.dumps(sent)
    if connections[using].vendor == "postgresql":
        values: tuple[Any, ...] = (
            row.pk,
            after,
            row.pk,
            flying,
            row.pk,
            at,
            had,
            level,
            had,
            limit,
        )
        found = read(_BY_SHARE, *values, using=using)
    else:
        values = (flying, row.pk, at, after, had, level, limit)
        found = read(_BY_RANK, *values, using=using)
    if is_first and len(found) < limit:
        lock = locking(using=using, skip_locked=True)
        text = _WITHOUT_SHARE + lock
        found += read(text, row.pk, at, limit - len(found), using=using)
    return [Due(*one) for one in found]


_IN_FLIGHT = """
SELECT share, count(*) FROM outbox_delivery
WHERE subscription_id = %s AND state = 'sent' AND share IS NOT NULL"""
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
    SELECT coalesce((%s::jsonb ->> shares.share)::int, 0) AS sent
) flying, LATERAL (
    SELECT d.id, d.token, d.attempts, d.share FROM outbox_delivery d
    WHERE d.subscription_id = %s AND d.state = 'pending' AND d.share = shares.share
    AND d.due_at <= %s
    ORDER BY d.due_at, d.id
    OFFSET greatest(%s - flying.sent, 0) LIMIT greatest(%s - greatest(flying.sent, %s), 0)
    FOR UPDATE SKIP LOCKED
) one
LIMIT %s
"""
# SQLite has no LATERAL: it ranks all that is due. `place` counts those in flight as well.
_BY_RANK = """
SELECT id, token, attempts, share FROM (
    SELECT d.id, d.token, d.attempts, d.share, coalesce(f.value, 0)
        + row_number() OVER (PARTITION BY d.share ORDER BY d.due_at, d.id) AS place
    FROM outbox_delivery d LEFT JOIN json_each(%s) f ON f.key = d.share
    WHERE d.subscription_id = %s AND d.state = 'pending' AND d.due_at <= %s AND d.share > %s
)
WHERE place > %s AND place <= %s ORDER BY share, place LIMIT %s
"""
_WITHOUT_SHARE = """
SELECT d.id, d.token, d.attempts, d.share FROM outbox_delivery d
WHERE d.subscription_id = %s AND d.state = 'pending' AND d.share IS NULL AND d.due_at <= %s
ORDER BY d.due_at, d.id LIMIT %s"""
