"""Events with a dead delivery, from a given one on, by the index of what is dead.

Asked at once for events, these and an order, PostgreSQL goes through the events from the newest on:
it does not know that what is dead may all be old. So they are asked for in helpings, ever larger.
"""

from __future__ import annotations

from outbox.models import Delivery

#: How many events each has. Who wants more than all of them asks at once for the rest.
DEAD_EVENT_PAGES = (200, 1600, 12800)


def with_dead(size: int, *, older: int | None, newer: int | None) -> list[int]:
    """Return the numbers of so many events: those above `newer`, rising, else falling."""
    dead = Delivery.objects.filter(state=Delivery.State.DEAD).values_list("event", flat=True)
    if newer is not None:
        return list(dead.filter(event__gt=newer).order_by("event").distinct()[:size])
    rows = dead if older is None else dead.filter(event__lt=older)
    return list(rows.order_by("-event").distinct()[:size])
