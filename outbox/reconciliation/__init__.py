"""Invariants of an app's tables, and queries that compare rows with their events.

Declare them in the app's `invariants.py`, which `reconcile()` imports::

    @invariant(remedy="See who changed the row, and set it back.")
    def weight_is_positive(examination: Examination) -> Iterator[Difference]:
        \"\"\"Each parcel weighs something.\"\"\"
        parcels = Parcel.objects.using(examination.using)
        examination.count_rows(parcels.count())
        for parcel in parcels.filter(weight__lt=1).iterator():
            yield Difference(f"{parcel} weighs nothing.", key=str(parcel.id), row=parcel)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from django.apps import apps
from django.db.models import (
    CharField,
    Count,
    Exists,
    Model,
    OuterRef,
    QuerySet,
    Value,
)
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce

from outbox import databases

from .columns import as_text, with_text

if TYPE_CHECKING:
    from outbox.models import Event

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
    """One violation of an invariant.

    Attributes:
        text: the violation, as one plain sentence.
        key: the key of its events; owed deliveries of this key may still correct it.
        row: the row to inspect; the admin links to it.
    """

    text: str
    key: str = ""
    row: Model | None = None


@dataclass
class Examination:
    """The argument of an invariant: options of the run, and the count of examined rows.

    Attributes:
        thorough: examine all rows; without it, an invariant may examine a sample.
        horizon: events emitted before this time may have been pruned; None: none was pruned.
        using: the outbox's database alias.
        seen: the number of examined rows, counted by `count_rows`.
    """

    thorough: bool = False
    horizon: datetime | None = None
    using: str = field(default_factory=databases.alias)
    seen: int = 0

    def count_rows(self, number: int) -> None:
        """Add to the number of examined rows."""
        self.seen += number

    def recent(self, rows: QuerySet[M], when: str) -> QuerySet[M]:
        """Return the rows of which no event was pruned: those from the horizon on.

        Args:
            rows: rows of a model.
            when: the column with a time that is not later than the first event of the row.
        """
        return rows.filter(**{f"{when}__gte": self.horizon}) if self.horizon else rows


Examine = Callable[[Examination], Iterator[Difference]]


@dataclass(frozen=True)
class Invariant:
    """A declared invariant; created by `@invariant`.

    Attributes:
        name: app label and function name, such as "orders.status_changes_match_events".
        statement: the invariant, as one sentence.
        remedy: the action to take on a difference.
        waits_for: the apps whose handlers may still correct a difference.
        outside: whether it calls an external system; then it runs without a transaction.
        examine: the function that yields the differences.
    """

    name: str
    statement: str
    remedy: str
    waits_for: tuple[str, ...]
    outside: bool
    examine: Examine


registry: dict[str, Invariant] = {}


def invariant(
    *, remedy: str, waits_for: tuple[str, ...] = (), outside: bool = False
) -> Callable[[Examine], Examine]:
    """Declare an invariant of an app's tables, in its `invariants.py`, for `reconcile()`.

    The function takes an `Examination` and yields a `Difference` for each violation. The first line
    of its docstring states the invariant. All invariants of a run read one snapshot.

    Args:
        remedy: the action to take on a difference, as one sentence.
        waits_for: app labels. While a delivery of the difference's key is owed to one of their
            handlers, the difference is unsettled and not wrong. Empty: it must hold at any time.
        outside: it calls an external system. It runs after the others, with no transaction open,
            and has to detect by itself the changes since the snapshot.

    Raises:
        TypeError: `waits_for` is a text.
    """

    def register(examine: Examine) -> Examine:
        config = apps.get_containing_app_config(examine.__module__)
        name = f"{config.label if config else examine.__module__}.{examine.__name__}"
        if isinstance(waits_for, str):
            step = f'Write a tuple: waits_for=("{waits_for}",).'
            raise TypeError(f"{name}: waits_for= is a text. {step}")
        statement = (examine.__doc__ or name).strip().partition("\n")[0]
        registry[name] = Invariant(name, statement, remedy, waits_for, outside, examine)
        return examine

    return register


def rows_without_event(rows: QuerySet[M], name: str, *, key: str, **fields: str) -> QuerySet[M]:
    """Return the rows that have no event of this name.

    Columns of texts, UUIDs, integers and dates can be compared. Other types, such as datetimes, may
    have another text in the database than in an event, and are then different.

    Args:
        rows: rows of a model.
        name: the event's name.
        key: the column with the same value as the event's key.
        fields: further fields of the event, each with the column of the same value.
    """
    events = _events(name, using=rows.db).filter(key=as_text(rows.model, key))
    for attribute, column in fields.items():
        events = events.annotate(**{f"_{attribute}": _field(attribute)})
        events = events.filter(**{f"_{attribute}": as_text(rows.model, column)})
    return rows.filter(~Exists(events))


def events_without_row(
    name: str, rows: QuerySet[Any], *, key: str, handled_by: str = "", **fields: str
) -> QuerySet[Event]:
    """Return the events of this name that have none of the rows, in the order of seq.

    The types that can be compared are those of `rows_without_event`.

    Args:
        name: the event's name.
        rows: rows of a model.
        key: the column with the same value as the event's key.
        handled_by: a handler's pinned name; only events with a receipt of this handler.
        fields: further fields of the event, each with the column of the same value.
    """
    events = _events(name, using=rows.db)
    if handled_by:
        done = apps.get_model("outbox", "Delivery").objects.using(rows.db).filter(state="done")
        done = done.filter(event=OuterRef("pk"), subscription__handler=handled_by)
        events = events.filter(Exists(done))
    rows = with_text(rows, key, OuterRef("key"))
    for attribute, column in fields.items():
        events = events.annotate(**{f"_{attribute}": _field(attribute)})
        rows = with_text(rows, column, OuterRef(f"_{attribute}"))
    return events.filter(~Exists(rows)).order_by("seq")


def duplicate_event_keys(name: str, *, using: str | None = None) -> QuerySet[Event, str]:
    """Return the keys that have more than one event of this name; corrections do not count."""
    using = using or databases.alias()
    keys = (
        _events(name, using=using).filter(corrects=None).values("key").annotate(times=Count("pk"))
    )
    return keys.filter(times__gt=1).order_by("key").values_list("key", flat=True)


def _events(name: str, *, using: str) -> QuerySet[Event]:
    found: QuerySet[Event] = apps.get_model("outbox", "Event").objects.using(using)
    return found.filter(name=name)


def _field(name: str) -> Coalesce:
    """Return an event's field as text; "" if the event lacks it."""
    return Coalesce(KeyTextTransform(name, "payload"), Value(""), output_field=CharField())
