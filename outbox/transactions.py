"""Open transactions of this thread, without those that a TestCase opens around a test."""

from __future__ import annotations

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper


def is_open(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a `transaction.atomic()` is open on the connection."""
    return _depth(connection) > 0


def is_its_own(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the innermost `atomic()` begins and ends a transaction, not a savepoint."""
    # With autocommit off, the code that turned it off owns the transaction.
    return len(connection.atomic_blocks) == 1 and connection.commit_on_exit


def open_aliases() -> list[str]:
    """Return the aliases of the databases with an open transaction."""
    return [one.alias for one in connections.all(initialized_only=True) if is_open(one)]


def is_open_in_view(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a transaction is open other than that of ATOMIC_REQUESTS around a view."""
    around_each_view = bool(connection.settings_dict.get("ATOMIC_REQUESTS"))
    return _depth(connection) > around_each_view


def _depth(connection: BaseDatabaseWrapper) -> int:
    # TestCase marks its own blocks for Django's check of durable=True.
    blocks = connection.atomic_blocks
    return sum(not getattr(block, "_from_testcase", False) for block in blocks)
