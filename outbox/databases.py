"""The database that holds the outbox, and open transactions of this thread."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from django.apps import apps
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

#: In a coroutine: the connections of the thread that waits for it, and that its queries use.
waiting_for: ContextVar[tuple[BaseDatabaseWrapper, ...]] = ContextVar("outbox_waiting_for")


def alias() -> str:
    """Return the alias of the database that holds the outbox, as the project's router decides.

    Emitters, relays, workers, operations and the monitor all call it. So a router that moves the
    app `outbox` moves all of them.
    """
    return router.db_for_write(apps.get_model("outbox", "Event"))


def is_in_coroutine() -> bool:
    """Return whether an event loop runs in this thread, which a query would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def is_open(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a `transaction.atomic()` is open, apart from a TestCase's around its test."""
    return _depth(connection) > 0


def is_its_own(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the innermost `atomic()` begins and ends a transaction, not a savepoint."""
    # With autocommit off, the code that turned it off owns the transaction.
    return len(connection.atomic_blocks) == 1 and connection.commit_on_exit


def open_aliases() -> list[str]:
    """Return the aliases of the databases with an open transaction.

    In a coroutine of a handler: those of the thread that waits for it.
    """
    used = waiting_for.get(None) or connections.all(initialized_only=True)
    return [one.alias for one in used if is_open(one)]


def is_open_in_view(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a transaction is open other than that of ATOMIC_REQUESTS around a view."""
    around_each_view = bool(connection.settings_dict.get("ATOMIC_REQUESTS"))
    return _depth(connection) > around_each_view


def _depth(connection: BaseDatabaseWrapper) -> int:
    # TestCase marks its own blocks for Django's check of durable=True.
    blocks = connection.atomic_blocks
    return sum(not getattr(block, "_from_testcase", False) for block in blocks)
