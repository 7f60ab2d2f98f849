"""The list of events: its pages, the states of its events' deliveries, and its filter by time.

Each query is bounded, so that the list of a large table costs no more than that of a small one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from django.db.models import Count, QuerySet
from django.http import HttpRequest

from outbox.models import Delivery, Event

from .keyset import KeysetChangeList

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

State = Delivery.State

#: States, the most severe first.
SEVERITY = (
    State.DEAD,
    State.PARKED,
    State.BLOCKED,
    State.PENDING,
    State.SENT,
    State.DISCARDED,
    State.DONE,
)
#: Sizes of the pages of events with a dead delivery. One query reads the rest.
DEAD_EVENT_PAGES = (200, 1600, 12800)
#: `emitted_at` is in the order of `seq` as far as the clocks of the emitting hosts agree.
_CLOCKS_AGREE = timedelta(minutes=5)
_NEAR_ENOUGH = 200


@dataclass(frozen=True)
class DeliveryCounts:
    """The number of an event's deliveries by state."""

    counts: Counter[str]

    @property
    def total(self) -> int:
        return self.counts.total()

    @property
    def worst(self) -> str:
        """The most severe state; empty without deliveries."""
        return next((state for state in SEVERITY if self.counts[state]), "")


class _Counted(TypedDict):
    delivery_counts: DeliveryCounts


if TYPE_CHECKING:
    CountedEvent = WithAnnotations[Event, _Counted]


def add_delivery_counts(rows: Iterable[Any]) -> list[Any]:
    """Set the `delivery_counts` of each event; cost: one query for all."""
    listed = list(rows)
    states = Delivery.objects.filter(event__in=listed).values_list("event", "state")
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for seq, state, count in states.annotate(Count("id")).order_by():
        counts[seq][state] = count
    for event in listed:
        event.delivery_counts = DeliveryCounts(counts[event.seq])
    return listed


class EventChangeList(KeysetChangeList):
    """A page of events with their delivery counts."""

    def get_queryset(self, *args: Any, **kwargs: Any) -> QuerySet[Event]:
        """Defer the payloads."""
        return super().get_queryset(*args, **kwargs).defer("payload")

    def first(
        self, number: int, *, older: int | None = None, newer: int | None = None
    ) -> list[Event]:
        """Read events by their dead deliveries if only those are wanted: all may be old."""
        if self.params.get("state") != State.DEAD or self.query:
            return super().first(number, older=older, newer=newer)
        found: list[Event] = []
        order = "-pk" if newer is None else "pk"
        for size in DEAD_EVENT_PAGES:
            seqs = events_with_dead_delivery(size, older=older, newer=newer)
            rows = self.queryset.filter(pk__in=seqs).order_by(order)
            found += rows[: number - len(found)]
            if len(found) == number or len(seqs) < size:
                return found
            older, newer = (seqs[-1], None) if newer is None else (None, seqs[-1])
        return found + super().first(number - len(found), older=older, newer=newer)

    def get_results(self, request: HttpRequest) -> None:
        """Count the deliveries of all rows in one query."""
        super().get_results(request)
        self.result_list = add_delivery_counts(self.result_list)


def events_with_dead_delivery(size: int, *, older: int | None, newer: int | None) -> list[int]:
    """Return the `seq` of `size` events: above `newer` ascending, otherwise descending."""
    # For one query on events, dead deliveries and an order, PostgreSQL scans the events from the
    # newest: it does not know that all dead ones may be old. So they are read in growing pages.
    dead = Delivery.objects.filter(state=Delivery.State.DEAD).values_list("event", flat=True)
    if newer is not None:
        return list(dead.filter(event__gt=newer).order_by("event").distinct()[:size])
    rows = dead if older is None else dead.filter(event__lt=older)
    return list(rows.order_by("-event").distinct()[:size])


def first_since(time: datetime) -> int:
    """Return a `seq` before which no event was emitted since `time`; few after it are older.

    Cost: a binary search with about a dozen small queries for a million events, or with about forty
    if the numbers contain the day.
    """
    sought = time - _CLOCKS_AGREE
    seqs = Event.objects.values_list("seq", flat=True)
    # Two queries: for both at once, SQLite scans all rows.
    low, high = seqs.order_by("seq").first() or 0, (seqs.order_by("-seq").first() or 0) + 1
    while high - low > _NEAR_ENOUGH:
        middle = (low + high) // 2
        if _is_since(sought, middle):
            high = middle
        else:
            low = middle
    return low


def _is_since(time: datetime, seq: int) -> bool:
    """Return whether the first event from `seq` on was emitted since `time`."""
    rows = Event.objects.filter(seq__gte=seq).order_by("seq")
    emitted_at = rows.values_list("emitted_at", flat=True).first()
    return emitted_at is None or emitted_at >= time
