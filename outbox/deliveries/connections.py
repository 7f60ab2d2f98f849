"""Keep Django's database connections as they were before a handler ran, or drop them.

A time limit interrupts a handler at any line, also within Django's own `atomic()`. Then Django's
record of the transaction can stay wrong: a transaction seems open. So nothing commits any more, and
no clean-up closes the connection, to protect the supposed transaction. A handler can cause the same
with `set_autocommit(False)` or `atomic().__enter__()`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .time_limit import TimeLimitExceeded

logger = logging.getLogger("outbox.connections")


class TransactionLeftOpen(RuntimeError):
    """The handler left a transaction open, or autocommit off; nothing that it wrote is stored."""


@contextmanager
def unchanged_connections() -> Iterator[None]:
    """Restore each database connection of this thread to its state before the block.

    Drop each connection whose transaction was opened within the block, and each one that a time
    limit may have interrupted within a statement. A transaction that was open before stays open.
    Savepoints that the block has begun within it are rolled back.

    Raises:
        TransactionLeftOpen: the block ended without an error and left a transaction open.
    """
    before = {one.alias: _State.of(one) for one in connections.all(initialized_only=True)}
    try:
        yield
    except BaseException as error:
        _restore(before, is_interrupted=isinstance(error, TimeLimitExceeded))
        raise
    if changed := _restore(before, is_interrupted=False):
        raise TransactionLeftOpen(
            f"The handler left a transaction open, or autocommit off, on {', '.join(changed)}. "
            "Nothing that it wrote is stored. Use `with transaction.atomic():`."
        )


def drop_all() -> None:
    """Drop every connection of this thread, even one that seems to be in a transaction."""
    for connection in connections.all(initialized_only=True):
        drop(connection)


def drop_interrupted() -> None:
    """Drop every connection of this thread that is in no transaction.

    Use it after a time limit's interruption, which may have hit within a statement. The state of
    the connection to the server is then unknown.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            drop(connection)


def drop(connection: BaseDatabaseWrapper) -> None:
    """Close a connection and reset Django's record of its transaction, in any state.

    The server rolls back. The next statement opens a new connection.
    """
    connection.closed_in_transaction = False  # otherwise close() does nothing
    with suppress(Error):
        if _is_in_memory(connection):
            connection._rollback()  # type: ignore[attr-defined]  # closing it would lose all data
        else:
            _end_pooled_session(connection)
            connection.close()
    connection.in_atomic_block = False
    connection.savepoint_ids, connection.atomic_blocks = [], []
    connection.run_on_commit = []
    connection.needs_rollback = connection.closed_in_transaction = False
    connection.run_commit_hooks_on_set_autocommit_on = False
    if _is_in_memory(connection):
        connection.set_autocommit(True)
    else:
        connection.connection = None


def _end_pooled_session(connection: BaseDatabaseWrapper) -> None:
    """End the session of a pooled connection; the pool then opens a new one.

    Django's close() only returns it to the pool, with all its session state. So may psycopg's.
    """
    session = getattr(connection.connection, "pgconn", None)
    if session is not None and getattr(connection, "pool", None):
        session.finish()


@dataclass(frozen=True)
class _State:
    """Django's record of a connection.

    Attributes:
        is_open: a transaction is open.
        blocks: its `atomic()` blocks.
        savepoints: their names; None where `atomic(savepoint=False)` made none.
        wrappers: the number of wrappers around its statements.
    """

    is_open: bool = False
    blocks: tuple[Any, ...] = ()
    savepoints: tuple[Any, ...] = ()
    wrappers: int = 0

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper) -> _State:
        return cls(
            connection.in_atomic_block,
            tuple(connection.atomic_blocks),
            tuple(connection.savepoint_ids),
            len(connection.execute_wrappers),
        )

    def has_same_transaction(self, other: _State) -> bool:
        mine = (self.is_open, self.blocks, self.savepoints)
        return mine == (other.is_open, other.blocks, other.savepoints)


def _restore(before: dict[str, _State], *, is_interrupted: bool) -> list[str]:
    """Restore every connection; return the aliases of those that the block left changed."""
    changed = []
    for connection in connections.all(initialized_only=True):
        was = before.get(connection.alias, _State())
        del connection.execute_wrappers[was.wrappers :]
        is_kept = was.has_same_transaction(_State.of(connection))
        is_changed = not (is_kept and (was.is_open or _begins_none(connection)))
        if is_changed:
            changed.append(connection.alias)
            logger.warning(
                "A transaction was left open on %s. It is rolled back.", connection.alias
            )
        if not was.is_open and (is_changed or is_interrupted):
            drop(connection)
        elif was.is_open and is_changed:
            _roll_back_to(was, connection)
    return changed


def _begins_none(connection: BaseDatabaseWrapper) -> bool:
    """Return whether autocommit is as in the settings, so no statement begins a transaction."""
    is_open = connection.connection is not None
    return not is_open or connection.autocommit == connection.settings_dict["AUTOCOMMIT"]


def _roll_back_to(was: _State, connection: BaseDatabaseWrapper) -> None:
    """Roll back the block's savepoints within a transaction that stays open."""
    begun = connection.savepoint_ids[len(was.savepoints) :]
    connection.in_atomic_block = True
    connection.atomic_blocks = list(was.blocks)
    connection.savepoint_ids = list(was.savepoints)
    savepoint = next((one for one in begun if one), None)
    connection.needs_rollback = savepoint is None
    if savepoint is not None:
        try:
            connection.savepoint_rollback(savepoint)
        except Error:
            connection.needs_rollback = True


def _is_in_memory(connection: BaseDatabaseWrapper) -> bool:
    # `is_in_memory_db` is the SQLite backend's own.
    return connection.vendor == "sqlite" and connection.is_in_memory_db()  # type: ignore[attr-defined]
