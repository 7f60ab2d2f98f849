"""Blocked keys: what holds up one key's later events, for handlers that keep order."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Min

from outbox.models import Delivery

from .diagnosis import why

State = Delivery.State

#: How many lines are shown where nobody says.
MOST = 50


@dataclass(frozen=True)
class BlockedKey:
    """A key's line of one handler: what stands first, and how many wait behind."""

    handler: str
    key: str
    number: int
    head: Delivery | None
    why: str


def longest_lines(most: int = MOST) -> list[BlockedKey]:
    """Return the longest lines: three reads, and a few small ones for each head."""
    blocked = Delivery.objects.filter(state=State.BLOCKED)
    rows = blocked.values_list("subscription__handler", "order_key").annotate(number=Count("pk"))
    found = [
        (handler, key or "", number)
        for handler, key, number in rows.order_by("-number", "order_key")[:most]
    ]
    heads = _heads({key for _handler, key, _number in found})
    return [
        BlockedKey(handler, key, number, head, why(head) if head else "")
        for handler, key, number in found
        for head in [heads.get((handler, key))]
    ]


def _heads(keys: set[str]) -> dict[tuple[str, str], Delivery]:
    """Return what stands first in each line, by the index of lines."""
    owed = Delivery.objects.filter(order_key__in=keys)
    firsts = owed.values("order_key", "subscription__handler").annotate(first=Min("event"))
    events = {(row["subscription__handler"], row["order_key"]): row["first"] for row in firsts}
    rows = owed.filter(event__in=set(events.values())).select_related("subscription", "event")
    found = {}
    for row in rows.prefetch_related("failures"):
        line = (row.subscription.handler, row.order_key or "")
        if events.get(line) == row.event_id:
            found[line] = row
    return found
