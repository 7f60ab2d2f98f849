"""Events with a dead delivery, in pages by the index of dead deliveries.

For one query on events, dead deliveries and an order, PostgreSQL scans the events from the newest:
it does not know that all dead ones may be old. So they are read in pages of growing size.
"""

from __future__ import annotations

from outbox.models import Delivery

#: Sizes of the pages. One query reads the rest.
DEAD_EVENT_PAGES = (200, 1600, 12800)


def with_dead(size: int, *, older: int | None, newer: int | None) -> list[int]:
    """Return the `seq` of `size` events: above `newer` ascending, otherwise descending."""
    dead = Delivery.objects.filter(state=Delivery.State.DEAD).values_list("event", flat=True)
    if newer is not None:
        return list(dead.filter(event__gt=newer).order_by("event").distinct()[:size])
    rows = dead if older is None else dead.filter(event__lt=older)
    return list(rows.order_by("-event").distinct()[:size])
