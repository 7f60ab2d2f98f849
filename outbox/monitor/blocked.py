"""Blocked keys: for an ordered handler, the delivery that blocks the later events of a key."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Min

from outbox.models import Delivery

from .diagnosis import why

State = Delivery.State

#: Default number of keys.
MOST = 50


@dataclass(frozen=True)
class BlockedKey:
    """A blocked key of one handler: its first owed delivery and the number blocked behind it."""

    handler: str
    key: str
    number: int
    head: Delivery | None
    why: str


def blocked_keys(most: int = MOST) -> list[BlockedKey]:
    """Return the keys with the most blocked deliveries, the largest number first.

    Cost: three queries, and a few small ones for each head.
    """
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
    """Return the first owed delivery of each handler and key, by the index of `order_key`."""
    owed = Delivery.objects.filter(order_key__in=keys)
    firsts = owed.values("order_key", "subscription__handler").annotate(first=Min("event"))
    events = {(row["subscription__handler"], row["order_key"]): row["first"] for row in firsts}
    rows = owed.filter(event__in=set(events.values())).select_related("subscription", "event")
    found = {}
    for row in rows.prefetch_related("failures"):
        pair = (row.subscription.handler, row.order_key or "")
        if events.get(pair) == row.event_id:
            found[pair] = row
    return found
