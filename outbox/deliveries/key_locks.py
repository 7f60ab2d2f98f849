"""Advisory locks of keys, and of ordered keys: pairs of an ordered handler and a key.

Per key: `seq` follows commit order for events of ordered handlers (rule 18).

SQLite has one writer anyway. On PostgreSQL, the INSERT of `emit` takes a transaction-level advisory
lock for the event's key before the event gets its `seq`. If two transactions lock two keys in
different order, they deadlock: PostgreSQL rolls one of them back.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b
from typing import TYPE_CHECKING

from django.db import connections

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


#: A table of one row. It locks a key against emits of other transactions until this one ends, and
#: waits for the lock. Its parameter is `key_number`. PostgreSQL neither merges a subquery with a
#: volatile function into the query around it, nor removes the call. So it calls the function before
#: it evaluates the values of the row, and the default of `seq` among them.
LOCKED_KEY = "(SELECT pg_advisory_xact_lock(%s)) AS locked_key"


def has_key_locks(connection: BaseDatabaseWrapper) -> bool:
    """Return whether several transactions can write at the same time."""
    return connection.vendor == "postgresql"


def lock_keys(keys: Collection[str], *, connection: BaseDatabaseWrapper) -> None:
    """Lock many keys as `LOCKED_KEY` does. Two callers never deadlock."""
    if not has_key_locks(connection) or not keys:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(n) FROM unnest(%s::bigint[]) AS n ORDER BY n",
            [sorted(map(key_number, keys))],
        )


def lock_free_keys(keys: Collection[str], *, connection: BaseDatabaseWrapper) -> set[str]:
    """Lock keys as `LOCKED_KEY` does, but without waiting; return the keys that were locked."""
    if not has_key_locks(connection) or not keys:
        return set(keys)
    numbers = {key_number(key): key for key in keys}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT n, pg_try_advisory_xact_lock(n) FROM unnest(%s::bigint[]) AS n",
            [list(numbers)],
        )
        return {numbers[number] for number, is_mine in cursor.fetchall() if is_mine}


def lock_ordered_keys(
    ordered_keys: Collection[tuple[str, str]], *, connection: BaseDatabaseWrapper
) -> None:
    """Lock ordered keys against starts of other transactions until this one ends.

    Args:
        ordered_keys: pairs of an ordered handler and a key.
        connection: the transaction's connection. On SQLite it is the only one that writes.
    """
    if not has_key_locks(connection) or not ordered_keys:
        return
    shared = sorted({_handler_number(handler) for handler, _key in ordered_keys})
    # Sorted, so that two messages with the same ordered keys cannot deadlock.
    own = sorted({key_number(f"{key} {handler}", kind=b"line") for handler, key in ordered_keys})
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT CASE WHEN is_shared THEN pg_advisory_xact_lock_shared(n) "
            "ELSE pg_advisory_xact_lock(n) END "
            "FROM unnest(%s::bigint[], %s::boolean[]) AS locks(n, is_shared)",
            [[*shared, *own], [True] * len(shared) + [False] * len(own)],
        )


def lock_all_keys(handler: str, *, using: str) -> None:
    """Lock all ordered keys of a handler against starts, as `lock_ordered_keys` locks some.

    It is one lock. A lock for each key of a large message would fill PostgreSQL's table of locks,
    which has room for some thousands.
    """
    connection = connections[using]
    if has_key_locks(connection):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_handler_number(handler)])


def _handler_number(handler: str) -> int:
    return key_number(handler, kind=b"handler")


def key_number(key: str, *, kind: bytes = b"outbox") -> int:
    """Return the number of a key's advisory lock. Two keys may have the same number."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, person=kind)
    return int.from_bytes(digest.digest(), "big", signed=True)
