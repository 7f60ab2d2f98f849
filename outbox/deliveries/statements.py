"""Raw SQL for the most frequent statements of relay and workers.

The ORM takes up to ten times as long to build a wide SELECT as to send it and read the result.
psycopg parses each placeholder, and a page of deliveries would have hundreds. So these statements
contain numbers as literals, and everything else as a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from django.db import connections
from django.db.models import Model, QuerySet
from django.db.models.base import ModelState

from outbox.databases import is_its_own

#: Condition "the delivery is in flight", written so that no index matches it. Otherwise PostgreSQL
#: finds ids in the partial index of sent deliveries, which it estimates as tiny. Each message then
#: reads the entries of all deliveries that were done since the last vacuum: thousands.
SENT = "state || '' = 'sent'"

M = TypeVar("M", bound=Model)
Convert = Callable[[Any], Any]

#: Rows as the driver reads them.
Rows = list[tuple[Any, ...]]


def numbers(ids: Iterable[int]) -> str:
    """Return ids as text for `IN (...)`; no ids give NULL, which matches nothing.

    Raise ValueError or TypeError for an id that is no number: a broker's message may contain one.
    """
    return ", ".join(str(int(one)) for one in ids) or "NULL"


def uuids(ids: Iterable[UUID], *, using: str) -> str:
    """Return UUIDs as text for `IN (...)`; no ids give NULL, which matches nothing."""
    is_text = not connections[using].features.has_native_uuid_field
    return ", ".join(f"'{one.hex if is_text else one}'" for one in ids) or "NULL"


def with_numbers(rows: QuerySet[M], column: str, ids: Iterable[int]) -> QuerySet[M]:
    """Return the rows with one of these numbers in a column, as `rows.filter(column__in=ids)`.

    Thousands of placeholders take the client longer than the statement takes PostgreSQL.
    """
    table = rows.model._meta.db_table
    return rows.extra(where=[f'"{table}"."{column}" IN ({numbers(ids)})'])  # noqa: S610  ours


def locking(
    *, using: str, of: tuple[str, ...] = (), skip_locked: bool = False, no_key: bool = False
) -> str:
    """Return the FOR UPDATE clause of a SELECT; "" on SQLite, which has one writer."""
    connection = connections[using]
    if not connection.features.has_select_for_update:
        return ""
    return " " + connection.ops.for_update_sql(of=of, skip_locked=skip_locked, no_key=no_key)


def timestamp(at: datetime, *, using: str) -> Any:
    """Return a time as a parameter for the driver."""
    return connections[using].ops.adapt_datetimefield_value(at)


def instant(at: datetime | None, *, using: str) -> str:
    """Return a time, or NULL, as a literal, with a cast for statements that imply no type."""
    text = "NULL" if at is None else f"'{timestamp(at, using=using)}'"
    return f"{text}::timestamptz" if connections[using].vendor == "postgresql" else text


def stored(
    model: type[M],
    values: Mapping[str, Any],
    *,
    using: str,
    related: Mapping[str, Model] | None = None,
) -> M:
    """Make a model instance of a stored row from its attributes.

    A faster `Model.from_db`, which checks each field and sends two signals.

    Args:
        model: the model.
        values: the attributes.
        using: the database alias.
        related: instances of related rows by field.
    """
    instance = model.__new__(model)
    state = ModelState()
    state.db, state.adding = using, False
    if related:
        state.fields_cache = dict(related)
    instance.__dict__.update(values, _state=state)
    return instance


class Columns(Generic[M]):
    """The columns of one model in a SELECT of several tables; makes instances of the rows.

    Args:
        model: the model of the columns.
        alias: the table's name within the statement.
        names: names of fields; empty means all. Other fields are deferred.
    """

    def __init__(self, model: type[M], *, alias: str, names: Sequence[str] = ()) -> None:
        fields = [one for one in model._meta.concrete_fields if not names or one.name in names]
        self._model, self._fields, self._alias = model, fields, alias
        self._names = [str(field.attname) for field in fields]
        self._converters = cache(self._find_converters)
        self.text = ", ".join(f"{alias}.{field.column}" for field in fields)

    def __len__(self) -> int:
        return len(self._fields)

    def read(self, values: Sequence[Any], *, using: str) -> M:
        """Make an instance of this model's part of a row."""
        values = self.convert(values, using=using)
        return stored(self._model, dict(zip(self._names, values, strict=True)), using=using)

    def convert(self, values: Sequence[Any], *, using: str) -> list[Any]:
        """Convert this model's part of a row to the fields' Python values."""
        converted = list(values)
        for place, step in self._converters(using):
            converted[place] = step(converted[place])
        return converted

    def _find_converters(self, using: str) -> list[tuple[int, Convert]]:
        """Return the converters of backend and field for the driver's values, as the ORM does."""
        found: list[tuple[int, Convert]] = []
        connection = connections[using]
        for place, field in enumerate(self._fields):
            column = field.get_col(self._alias)
            steps = [
                *connection.ops.get_db_converters(column),
                *field.get_db_converters(connection),
            ]
            found += [(place, _bound(step, column, connection)) for step in steps]
        return found


def _bound(step: Any, column: Any, connection: Any) -> Convert:
    return lambda value: step(value, column, connection)


class Statement(NamedTuple):
    """An SQL statement and its parameters.

    Attributes:
        text: SQL with placeholders.
        values: the parameters.
        is_page: it reads the first rows of many, in the order of an index, within a transaction.
    """

    text: str
    values: tuple[Any, ...] = ()
    is_page: bool = False


#: Set around each page on PostgreSQL. Its statistics miss a new backlog and new or restored tables.
#: So it expects few rows, and reads and sorts the whole backlog for each page. Other statements
#: keep the sort, since no index has their order.
_NO_SORT = Statement("SET LOCAL enable_sort = off")
_SORT = Statement("SET LOCAL enable_sort TO DEFAULT")
_UNFLUSHED = Statement("SET LOCAL synchronous_commit = off")
_COMMIT = Statement("COMMIT")


#: Milliseconds, almost 25 days: the longest timeout that PostgreSQL accepts.
_LONGEST_BOUND = 2**31 - 1


def bounds(seconds: float, *, using: str) -> list[Statement]:
    """Return statements that bound how long PostgreSQL waits for the client within a transaction.

    A host that loses power or network within a transaction keeps its row locks until PostgreSQL
    notices, which takes two hours by Linux's defaults. The first bound ends an idle transaction.
    The second one ends the connection of a client that acknowledges no packets.

    Args:
        seconds: the longest time that the client may be idle within the transaction.
        using: the database alias.

    Returns:
        No statements on SQLite, and none for a transaction that is not the caller's own.
    """
    connection = connections[using]
    if connection.vendor != "postgresql" or not is_its_own(connection):
        return []
    milliseconds = min(int(seconds * 1000), _LONGEST_BOUND)
    return [
        Statement(f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds}"),
        Statement(f"SET LOCAL tcp_user_timeout = {milliseconds}"),
    ]


def bound_transaction(seconds: float, *, using: str) -> None:
    """Apply `bounds` to the caller's new transaction."""
    if statements := bounds(seconds, using=using):
        read_each(*statements, using=using)


def read(statement: str, *values: Any, using: str) -> Rows:
    """Run a statement; return its rows as the driver reads them."""
    return _send(Statement(statement, values), number=1, using=using)[0]


def read_each(*statements: Statement, using: str) -> list[Rows]:
    """Run statements that do not depend on each other's rows; return the rows of each, if any.

    Use one round trip if the driver supports it. Each round trip wakes two processes, which takes
    longer than the statements on an idle machine. Each statement has its own snapshot.
    """
    sent = [part for one in statements for part in _around(one, using=using)]
    if _takes_many(using):
        text = ";\n".join(one.text for one in sent)
        values = tuple(value for one in sent for value in one.values)
        found = _send(Statement(text, values), number=len(sent), using=using)
    else:
        found = [rows for one in sent for rows in _send(one, number=1, using=using)]
    pairs = zip(sent, found, strict=True)
    return [rows for one, rows in pairs if one not in (_NO_SORT, _SORT)]


def read_last(*statements: Statement, using: str) -> list[Rows]:
    """As `read_each`, for the last statements of a transaction that can be repeated if lost.

    If the driver supports it, COMMIT is sent with them and does not wait for the disk. A crash of
    the database shortly afterwards may lose the whole transaction.
    """
    if not (_takes_many(using) and is_its_own(connections[using])):
        return read_each(*statements, using=using)
    # Django commits afterwards as usual; psycopg skips that, since the transaction is over.
    return read_each(_UNFLUSHED, *statements, _COMMIT, using=using)[1:-1]


def _around(one: Statement, *, using: str) -> list[Statement]:
    is_by_index = one.is_page and connections[using].vendor == "postgresql"
    return [_NO_SORT, one, _SORT] if is_by_index else [one]


def _takes_many(using: str) -> bool:
    """Return whether one text may hold several statements: with psycopg's client-side binding."""
    connection = connections[using]
    if not hasattr(getattr(connection, "Database", None), "ClientCursor"):
        return False
    return not getattr(connection.features, "uses_server_side_binding", True)


def _send(statement: Statement, *, number: int, using: str) -> list[Rows]:
    with connections[using].cursor() as cursor:
        cursor.execute(statement.text, statement.values or None)
        found = []
        for left in range(number - 1, -1, -1):
            found.append(list(cursor.fetchall()) if cursor.description else [])
            if left:
                cursor.nextset()
        return found


def execute(statement: str, *values: Any, using: str) -> int:
    """Run a statement that returns no rows; return the number of affected rows."""
    with connections[using].cursor() as cursor:
        cursor.execute(statement, values or None)
        return int(cursor.rowcount)
