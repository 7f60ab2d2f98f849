"""The live view of the demo: a line for each order, with its owed deliveries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from django.db import DatabaseError, connection
from django.db.models import Count, F, Min

from orders.models import Order
from outbox.models import Delivery
from shop.demo import conditions

#: Characters of a bar of deliveries.
BAR = 20
#: Lines of the terminal that stay free for messages.
FREE = 8


def frame(width: int, height: int) -> Sequence[str]:
    """Return the lines for a terminal of this size; none if the database does not answer."""
    try:
        return ["-" * min(width - 1, 100), *_orders(max(3, height - FREE)), _summary()]
    except DatabaseError:  # the demo may be injecting this failure
        return []
    finally:
        connection.close()


def _orders(most: int) -> list[str]:
    orders = list(Order.objects.order_by("-id")[:most])
    keys = [str(order.pk) for order in orders]
    states = _states(keys)
    doing = _doing(keys)
    return [
        f"{order.reference}  {order.status:<13}  {_bar(states[key])}  {doing.get(key, '')}"
        for order, key in zip(reversed(orders), reversed(keys), strict=True)
    ]


def _states(keys: Sequence[str]) -> defaultdict[str, Counter[str]]:
    """Return the number of deliveries in each state, by order."""
    rows = Delivery.objects.filter(event__key__in=keys).values_list("event__key", "state")
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for key, state, number in rows.annotate(number=Count("id")).order_by():
        found[key][state] = number
    return found


def _bar(states: Counter[str]) -> str:
    """Return a bar of the settled deliveries, and their number: "##########..........  3 of  6"."""
    total = sum(states.values())
    settled = total - sum(states[state] for state in Delivery.OWED)
    full = BAR * settled // total if total else 0
    return f"{'#' * full:.<{BAR}}  {settled:2} of {total:2}"


def _doing(keys: Sequence[str]) -> dict[str, str]:
    """Return the handler of each order's first owed delivery, with its attempt if it failed."""
    owed = Delivery.objects.filter(event__key__in=keys, state__in=Delivery.OWED)
    first = owed.values("event__key").annotate(first=Min("id")).values("first")
    rows = Delivery.objects.filter(pk__in=first).annotate(
        key=F("event__key"), handler=F("subscription__handler")
    )
    return {row.key: _described(row) for row in rows}


def _described(row: Delivery) -> str:
    again = f", attempt {row.attempts}" if row.attempts > 1 else ""
    return f"{row.state} {row.handler}{again}"  # type: ignore[attr-defined]  # annotated


def _summary() -> str:
    statuses = Counter(Order.objects.order_by().values_list("status", flat=True))
    parts = ", ".join(f"{number} {status}" for status, number in sorted(statuses.items()))
    total = statuses.total()
    noun = "order" if total == 1 else "orders"
    shown = f"{total} {noun} ({parts})" if parts else "No order yet"
    return f"{shown}. Deliveries and events owed: {conditions.unsettled()}."
