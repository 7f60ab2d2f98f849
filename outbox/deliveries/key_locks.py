"""Advisory locks per key: `seq` follows commit order for events of ordered handlers (rule 18).

SQLite has one writer anyway. On PostgreSQL, `emit` takes a transaction-level advisory lock for the
event's key before the event gets its `seq`. If two transactions lock two keys in different order,
they deadlock: PostgreSQL rolls one of them back.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


def lock_key(key: str, *, connection: BaseDatabaseWrapper) -> None:
    """Lock a key against emits of other transactions until this one ends; wait for the lock."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_number(key)])


def lock_keys(keys: Collection[str], *, connection: BaseDatabaseWrapper) -> None:
    """As `lock_key` for many keys. Two callers never deadlock."""
    if connection.vendor != "postgresql" or not keys:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(n) FROM unnest(%s::bigint[]) AS n ORDER BY n",
            [sorted(map(_number, keys))],
        )


def lock_free_keys(keys: Collection[str], *, connection: BaseDatabaseWrapper) -> set[str]:
    """As `lock_key` for many keys, but without waiting; return the keys that were locked."""
    if connection.vendor != "postgresql" or not keys:
        return set(keys)
    numbers = {_number(key): key for key in keys}
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
    if connection.vendor != "postgresql" or not ordered_keys:
        return
    # Sorted, so that two messages with the same ordered keys cannot deadlock.
    numbers = sorted({_number(f"{key} {handler}", kind=b"line") for handler, key in ordered_keys})
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(n) FROM unnest(%s::bigint[]) AS n ORDER BY n", [numbers]
        )


def _number(key: str, *, kind: bytes = b"outbox") -> int:
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, person=kind)
    return int.from_bytes(digest.digest(), "big", signed=True)
