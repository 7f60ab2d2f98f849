"""Parts of the statements that relay and workers send all the time, written out as text.

The ORM takes up to ten times as long to make a wide SELECT as it takes to send it and to read its
answer, and psycopg parses each placeholder of the hundreds that a page of deliveries would have. So
numbers stand in these statements as they are, and all else is a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

from django.db import connections
from django.db.models import Model
from django.db.models.base import ModelState

from outbox.transactions import is_its_own

#: That a delivery is in flight, in words that no index has. Rows that are named by their ids are
#: else sought in the index of what is sent: PostgreSQL takes it for tiny, and reads, for each
#: message, all entries of deliveries that are done by now: thousands, between two vacuums.
SENT = "state || '' = 'sent'"

M = TypeVar("M", bound=Model)
Convert = Callable[[Any], Any]

#: Rows as the driver reads them.
Rows = list[tuple[Any, ...]]


def numbers(ids: Iterable[int]) -> str:
    """Return ids for `IN (...)`; of none, what nothing is in.

    Raises ValueError or TypeError for what is no number, as a message from the broker may bring.
    """
    return ", ".join(str(int(one)) for one in ids) or "NULL"


def locking(
    *, using: str, of: tuple[str, ...] = (), skip_locked: bool = False, no_key: bool = False
) -> str:
    """Return the end of a SELECT that locks its rows; nothing on SQLite, which has one writer."""
    connection = connections[using]
    if not connection.features.has_select_for_update:
        return ""
    return " " + connection.ops.for_update_sql(of=of, skip_locked=skip_locked, no_key=no_key)


def timestamp(at: datetime, *, using: str) -> Any:
    """Return a moment as a parameter."""
    return connections[using].ops.adapt_datetimefield_value(at)


def instant(at: datetime | None, *, using: str) -> str:
    """Return a moment, or none, as it stands in a statement whose other columns say no types."""
    text = "NULL" if at is None else f"'{timestamp(at, using=using)}'"
    return f"{text}::timestamptz" if connections[using].vendor == "postgresql" else text


def stored(model: type[M], values: Mapping[str, Any], *, using: str) -> M:
    """Make an instance of a row that is stored, by its attributes.

    As `Model.from_db` does, in one step: that asks for each field, and sends two signals.
    """
    instance = model.__new__(model)
    state = ModelState()
    state.db, state.adding = using, False
    instance.__dict__.update(values, _state=state)
    return instance


class Columns(Generic[M]):
    """The columns of one model in a SELECT of several tables, and its instances made of them.

    Args:
        model: whose columns.
        alias: the table's name within the statement.
        names: of fields; none: all. Others are read when somebody asks for them.
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
        """Make an instance of its part of a row."""
        values = self.convert(values, using=using)
        return stored(self._model, dict(zip(self._names, values, strict=True)), using=using)

    def convert(self, values: Sequence[Any], *, using: str) -> list[Any]:
        """Return its part of a row as the model has it."""
        converted = list(values)
        for place, step in self._converters(using):
            converted[place] = step(converted[place])
        return converted

    def _find_converters(self, using: str) -> list[tuple[int, Convert]]:
        """Ask backend and field, as the ORM does, what they make of what the driver reads."""
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
    """What is sent to the database.

    Attributes:
        text: with placeholders.
        values: what stands for them.
        is_page: it reads the first rows of many, in the order of an index, within a transaction.
    """

    text: str
    values: tuple[Any, ...] = ()
    is_page: bool = False


#: Around a page, on PostgreSQL. Its statistics know nothing of a backlog that has just come, nor of
#: any table that is young or restored: it takes what waits for a few rows, reads them all and sorts
#: them, for each page again. Around nothing else: what has no index in its order needs the sort.
_NO_SORT = Statement("SET LOCAL enable_sort = off")
_SORT = Statement("SET LOCAL enable_sort TO DEFAULT")
_UNFLUSHED = Statement("SET LOCAL synchronous_commit = off")
_COMMIT = Statement("COMMIT")


#: Milliseconds, almost 25 days: PostgreSQL takes no longer bound.
_LONGEST_BOUND = 2**31 - 1


def bounds(seconds: float, *, using: str) -> list[Statement]:
    """Return statements that bound how long PostgreSQL waits for the client within a transaction.

    A host that loses power or network in the middle of a transaction keeps its row locks until
    PostgreSQL notices, which takes two hours by Linux's defaults. The first bound ends a
    transaction that is idle, the second one the connection of a client that acknowledges nothing.

    Args:
        seconds: the longest that the client does nothing within the transaction.
        using: the alias. Empty for a transaction that is not the caller's own, and on SQLite.
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
    """Set `bounds` for the caller's transaction, which has just begun."""
    if statements := bounds(seconds, using=using):
        read_each(*statements, using=using)


def read(statement: str, *values: Any, using: str) -> Rows:
    """Run a statement that returns rows; return them as the driver reads them."""
    return _send(Statement(statement, values), number=1, using=using)[0]


def read_each(*statements: Statement, using: str) -> list[Rows]:
    """Run statements that know nothing of each other's rows; return the rows of each, if any.

    In one round trip where the driver can do so: each wakes two processes, which on a quiet machine
    takes longer than the statements do. Each sees what was committed before it, as if sent alone.
    """
    sent = [part for one in statements for part in _around(one, using=using)]
    if _takes_many(using):
        text = ";\n".join(one.text for one in sent)
        values = tuple(value for one in sent for value in one.values)
        found = _send(Statement(text, values), number=len(sent), using=using)
    else:
        found = [rows for one in sent for rows in _send(one, number=1, using=using)]
    asked = zip(sent, found, strict=True)
    return [rows for one, rows in asked if one not in (_NO_SORT, _SORT)]


def read_last(*statements: Statement, using: str) -> list[Rows]:
    """As `read_each`: the last statements of a transaction that can be had again if it is lost.

    Where the driver can do so its COMMIT goes along, and does not wait for the disk: if the
    database crashes within the next moments, it may be as if the transaction had never been.
    """
    if not (_takes_many(using) and is_its_own(connections[using])):
        return read_each(*statements, using=using)
    # Django asks for a COMMIT all the same, and psycopg finds that the transaction is over.
    return read_each(_UNFLUSHED, *statements, _COMMIT, using=using)[1:-1]


def _around(one: Statement, *, using: str) -> list[Statement]:
    is_by_index = one.is_page and connections[using].vendor == "postgresql"
    return [_NO_SORT, one, _SORT] if is_by_index else [one]


def _takes_many(using: str) -> bool:
    """Whether several statements go as one text: psycopg's, whose cursors put values into it."""
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
    """Run a statement that returns no rows; return how many it touched."""
    with connections[using].cursor() as cursor:
        cursor.execute(statement, values or None)
        return int(cursor.rowcount)
