"""Number of deliveries by state for each event of a page, in one query."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from django.db.models import Count

from outbox.models import Delivery, Event

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


@dataclass(frozen=True)
class Tally:
    """The number of an event's deliveries by state."""

    counts: Counter[str]

    @property
    def total(self) -> int:
        return self.counts.total()

    @property
    def worst(self) -> str:
        """The most severe state; empty without deliveries."""
        return next((state for state in SEVERITY if self.counts[state]), "")


class _Tallied(TypedDict):
    tally: Tally


if TYPE_CHECKING:
    TalliedEvent = WithAnnotations[Event, _Tallied]


def add_tallies(rows: Iterable[Any]) -> list[Any]:
    """Set the `tally` of each event; cost: one query for all."""
    listed = list(rows)
    states = Delivery.objects.filter(event__in=listed).values_list("event", "state")
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for seq, state, count in states.annotate(Count("id")).order_by():
        counts[seq][state] = count
    for event in listed:
        event.tally = Tally(counts[event.seq])
    return listed
