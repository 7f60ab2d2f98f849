"""What must hold of an app's books, and what does not: invariants and differences.

In an app's `invariants.py`, which `reconcile()` finds by itself::

    @invariant(remedy="See who changed the row, and set it back.")
    def weight_is_positive(examination: Examination) -> Iterator[Difference]:
        \"\"\"Each parcel weighs something.\"\"\"
        parcels = Parcel.objects.all()
        examination.saw(parcels.count())
        for parcel in parcels.filter(weight__lt=1).iterator():
            yield Difference(f"{parcel} weighs nothing.", key=str(parcel.id), row=parcel)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from django.apps import apps
from django.db.models import Model, QuerySet

from outbox import databases

from .evidence import duplicate_event_keys, events_without_row, rows_without_event

__all__ = [
    "Difference",
    "Examination",
    "Invariant",
    "duplicate_event_keys",
    "events_without_row",
    "invariant",
    "registry",
    "rows_without_event",
]

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Difference:
    """One thing that does not hold.

    Attributes:
        text: what differs, as one plain sentence.
        key: the aggregate that it is about; what is owed about it may still put it right.
        row: what a person should look at; the admin links to it.
    """

    text: str
    key: str = ""
    row: Model | None = None


@dataclass
class Examination:
    """One look at the books, handed to each invariant.

    Attributes:
        thorough: look at all there is, where only a part is looked at by default.
        horizon: events emitted before this moment may have been pruned; None: all are there.
        using: the outbox's database alias.
        seen: how many rows were looked at, as `saw` was told.
    """

    thorough: bool = False
    horizon: datetime | None = None
    using: str = field(default_factory=databases.alias)
    seen: int = 0

    def saw(self, number: int) -> None:
        """Add to the number of rows that were looked at."""
        self.seen += number

    def recent(self, rows: QuerySet[M], when: str) -> QuerySet[M]:
        """Return the rows whose events are all kept: those from the horizon on.

        Args:
            rows: some model's rows.
            when: the column with the time before which none of a row's events was emitted.
        """
        return rows.filter(**{f"{when}__gte": self.horizon}) if self.horizon else rows


Examine = Callable[[Examination], Iterator[Difference]]


@dataclass(frozen=True)
class Invariant:
    """What must hold; made by `@invariant`.

    Attributes:
        name: app label and function name, such as "orders.moves_are_told".
        says: what must hold, as one sentence.
        remedy: what to do about a difference.
        waits_for: the apps whose handlers may still put a difference right.
        outside: whether it calls outside, so that it runs with no transaction open.
        examine: yields what differs.
    """

    name: str
    says: str
    remedy: str
    waits_for: tuple[str, ...]
    outside: bool
    examine: Examine


registry: dict[str, Invariant] = {}


def invariant(
    *, remedy: str, waits_for: tuple[str, ...] = (), outside: bool = False
) -> Callable[[Examine], Examine]:
    """Declare what must hold of an app's books: in its `invariants.py`, for `reconcile()`.

    The function takes an `Examination` and yields a `Difference` for each violation. The first line
    of its docstring states the invariant. All invariants of a run read one snapshot.

    Args:
        remedy: what to do about a difference, as one sentence.
        waits_for: app labels. While one of their handlers is owed something about a difference's
            key, it is unsettled and not wrong. Empty: it must hold at any moment.
        outside: it calls somebody outside. It runs after the others, with no transaction open,
            and has to find out by itself what changed meanwhile.
    """

    def register(examine: Examine) -> Examine:
        config = apps.get_containing_app_config(examine.__module__)
        name = f"{config.label if config else examine.__module__}.{examine.__name__}"
        says = (examine.__doc__ or name).strip().partition("\n")[0]
        registry[name] = Invariant(name, says, remedy, waits_for, outside, examine)
        return examine

    return register
