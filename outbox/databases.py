"""The database that holds the outbox, and open transactions of this thread."""

from __future__ import annotations

from django.apps import apps
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper


def alias() -> str:
    """Return the alias of the database that holds the outbox, as the project's router decides.

    Emitters, relays, workers, operations and the monitor all call it. So a router that moves the
    app `outbox` moves all of them.
    """
    return router.db_for_write(apps.get_model("outbox", "Event"))


def is_open(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a `transaction.atomic()` is open, apart from a TestCase's around its test."""
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
