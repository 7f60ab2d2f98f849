"""Queries for invariants: compare rows with their events, in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from django.apps import apps
from django.db.models import (
    CharField,
    Count,
    Exists,
    Func,
    Model,
    OuterRef,
    QuerySet,
    UUIDField,
    Value,
)
from django.db.models.constants import LOOKUP_SEP
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce

from outbox import databases

if TYPE_CHECKING:
    from outbox.models import Event

M = TypeVar("M", bound=Model)


def rows_without_event(rows: QuerySet[M], name: str, *, key: str, **fields: str) -> QuerySet[M]:
    """Return the rows that have no event of this name.

    Args:
        rows: rows of a model.
        name: the event's name.
        key: the column with the same value as the event's key.
        fields: further fields of the event, each with the column of the same value.
    """
    events = _events(name, using=rows.db).filter(key=_as_text(rows.model, key))
    for field, column in fields.items():
        events = events.annotate(**{f"_{field}": _field(field)})
        events = events.filter(**{f"_{field}": _as_text(rows.model, column)})
    return rows.filter(~Exists(events))


def events_without_row(
    name: str, rows: QuerySet[Any], *, key: str, handled_by: str = "", **fields: str
) -> QuerySet[Event]:
    """Return the events of this name that have none of the rows, in the order of seq.

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
    rows = rows.filter(**{key: _as_column(rows.model, key, OuterRef("key"))})
    for field, column in fields.items():
        events = events.annotate(**{f"_{field}": _field(field)})
        rows = rows.filter(**{column: _as_column(rows.model, column, OuterRef(f"_{field}"))})
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


def _as_text(model: type[Model], column: str) -> Any:
    """Return a column as text in the format of event payloads."""
    outer = OuterRef(column)
    return _UUIDAsText(outer) if _is_uuid(model, column) else Cast(outer, CharField())


def _as_column(model: type[Model], column: str, text: OuterRef) -> Any:
    """Return a text of an event in the column's type, so that the column's index is used."""
    return _TextAsUUID(text) if _is_uuid(model, column) else text


def _is_uuid(model: type[Model], column: str) -> bool:
    field: Any = None
    for part in column.split(LOOKUP_SEP):
        field = model._meta.pk if part == "pk" else model._meta.get_field(part)
        if field.is_relation:
            model, field = field.related_model, field.target_field
    return isinstance(field, UUIDField)


class _UUIDAsText(Func):
    """A UUID column as text with hyphens; SQLite stores it without."""

    output_field = CharField()
    template = "CAST(%(expressions)s AS text)"

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        x = "%(expressions)s"
        parts = [f"substr({x}, {start}, {length})" for start, length in _PARTS]
        return self.as_sql(compiler, connection, template=" || '-' || ".join(parts), **context)


_PARTS = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))


class _TextAsUUID(Func):
    """A text as a UUID column stores it; NULL if it is no UUID (PostgreSQL)."""

    output_field = UUIDField()
    template = "CAST(%(expressions)s AS text)"

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "REPLACE(%(expressions)s, '-', '')"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        text = "%(expressions)s"
        pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
        template = f"CASE WHEN {text} ~ '{pattern}' THEN CAST({text} AS uuid) END"
        sql, params = self.as_sql(compiler, connection, template=template, **context)
        return sql, (*params, *params)
