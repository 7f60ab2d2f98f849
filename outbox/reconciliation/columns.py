"""Compare the columns of rows with the texts of events, on PostgreSQL and SQLite."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import (
    BigIntegerField,
    CharField,
    Func,
    IntegerField,
    Model,
    OuterRef,
    QuerySet,
    TextField,
    UUIDField,
)
from django.db.models.constants import LOOKUP_SEP
from django.db.models.functions import Cast

M = TypeVar("M", bound=Model)


def as_text(model: type[Model], column: str) -> Any:
    """Return a column of the outer query as text."""
    outer = OuterRef(column)
    is_uuid = isinstance(_type_of(model, column), UUIDField)
    return _UUIDAsText(outer) if is_uuid else Cast(outer, CharField())


def with_text(rows: QuerySet[M], column: str, text: OuterRef) -> QuerySet[M]:
    """Return the rows whose column has a text of an event.

    Common types are compared in the column's type, so that its index is used.
    """
    kind = _type_of(rows.model, column)
    if isinstance(kind, CharField | TextField):
        return rows.filter(**{column: text})
    if isinstance(kind, UUIDField):
        return rows.filter(**{column: _TextAsUUID(text)})
    if isinstance(kind, IntegerField):
        return rows.filter(**{column: _TextAsInteger(text)})
    found: QuerySet[M] = rows.alias(**{f"_{column}": Cast(column, CharField())})
    return found.filter(**{f"_{column}": text})


def _type_of(model: type[Model], column: str) -> Any:
    """Return the field that stores a column; of a relation, the one that it refers to."""
    field: Any = None
    for part in column.split(LOOKUP_SEP):
        field = model._meta.pk if part == "pk" else model._meta.get_field(part)
        if field.is_relation:
            model, field = field.related_model, field.target_field
    return field


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


class _TextAsInteger(Func):
    """A text as an integer; NULL if it is no integer of at most 64 bits (PostgreSQL).

    SQLite converts it for the comparison: https://www.sqlite.org/datatype3.html#affinity
    """

    output_field = BigIntegerField()
    template = "%(expressions)s"

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        text = "%(expressions)s"
        fits = f"CAST({text} AS numeric) BETWEEN {-(2**63)} AND {2**63 - 1}"
        template = (
            f"CASE WHEN {text} !~ '^(0|-?[1-9][0-9]{{0,18}})$' THEN NULL "
            f"WHEN {fits} THEN CAST({text} AS bigint) END"
        )
        sql, params = self.as_sql(compiler, connection, template=template, **context)
        return sql, (*params, *params, *params)
