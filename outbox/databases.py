"""The databases that hold the outbox, and open transactions of this thread.

Without `OUTBOX["DATABASES"]` the project's router names the one database. With it, each listed
database has an outbox of its own. A context variable has the one that the running code works on: a
thread of the relay, a delivery, a command or a page sets it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import reduce
from typing import Any, Generic, Protocol, TypeVar

from django.apps import apps
from django.conf import settings
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .chosen_database import chosen, listed, working_on
from .conf import conf

__all__ = ["listed", "working_on"]

logger = logging.getLogger("outbox.database")

#: In a coroutine: the connections of the thread that waits for it, and that its queries use.
waiting_for: ContextVar[tuple[BaseDatabaseWrapper, ...]] = ContextVar("outbox_waiting_for")


#: The database of the running transaction with a receipt; None outside of one.
_receipt_in: ContextVar[str | None] = ContextVar("outbox_receipt_in", default=None)


class UnlistedDatabase(ValueError):
    """A database was named that has no outbox."""


class SeveralTransactions(RuntimeError):
    """emit() cannot choose a database: several listed ones have an open transaction."""


class WrittenBesideReceipt(RuntimeError):
    """A handler wrote to another database than its receipt's. The two do not commit together."""


def alias() -> str:
    """Return the alias of the database whose outbox the running code works on.

    Emitters, relays, workers, operations and the monitor all call it. Without
    `OUTBOX["DATABASES"]` the project's router decides. So a router that moves the app `outbox`
    moves all of them. With the setting it is the database of `working_on`, or the first listed one.
    """
    if (own := chosen()) is not None:
        return own
    return router.db_for_write(apps.get_model("outbox", "Event"))


def aliases() -> tuple[str, ...]:
    """Return the aliases of all databases with an outbox, the default one first."""
    return listed() or (alias(),)


def replica_of(using: str) -> str:
    """Return the replica of a database, from `OUTBOX["READ_FROM"]`; "" without one."""
    given = conf(lenient=True).READ_FROM
    known = {aliases()[0]: given} if isinstance(given, str) else given
    return known.get(using, "")


def primary_of(using: str) -> str:
    """Return the listed database of a replica, or the database itself."""
    return next((one for one in listed() if replica_of(one) == using), using)


def serving(using: str) -> AbstractContextManager[None]:
    """Let a relay, a worker or a job work on a database. Without the setting the router decides."""
    return working_on(using if listed() else None)


@contextmanager
def receipt_in(using: str | None) -> Iterator[None]:
    """Refuse to emit into another database within the block, which a receipt's commit ends.

    None: the block runs after that commit, in a copy of the context of a handler's call.
    """
    before = _receipt_in.get()
    _receipt_in.set(using)
    try:
        # No token of the variable: `async with receipt:` enters and exits in two contexts.
        yield
    finally:
        _receipt_in.set(before)


def for_emit(given: str | None = None) -> str:
    """Return the database in whose transaction an event is stored; perhaps none is open there.

    Args:
        given: the alias that the caller names. None: the receipt's within its transaction,
            otherwise the listed one with an open transaction.

    Raises:
        UnlistedDatabase: the given one has no outbox.
        SeveralTransactions: none is given, and several listed ones have an open transaction.
        WrittenBesideReceipt: the running handler's receipt is in another one.
    """
    known, receipt = listed(), _receipt_in.get()
    allowed = known or (alias(),)
    using = given or receipt or (_only_open(known) if known else allowed[0])
    if using not in allowed:
        raise UnlistedDatabase(_unlisted(using, known))
    if receipt not in (None, using):
        raise WrittenBesideReceipt(
            f"emit() stores an event in {using!r}, but the handler's receipt is in {receipt!r}. "
            "The two do not commit together. Emit it in a handler with atomic=False, before `with "
            "receipt:`, with a dedupe_key= of the event's id."
        )
    return using


def _only_open(known: tuple[str, ...]) -> str:
    found = [one for one in known if one in open_aliases()]
    if len(found) > 1:
        raise SeveralTransactions(
            f"emit() finds open transactions of {' and '.join(map(repr, found))}, and an event is "
            "stored in one of them. Name it: emit(event, using=...). ATOMIC_REQUESTS opens a "
            "transaction of each database that sets it."
        )
    return found[0] if found else alias()


def _unlisted(using: str, known: tuple[str, ...]) -> str:
    if known:
        return (
            f'{using!r} is not in OUTBOX["DATABASES"] ({", ".join(known)}). List it there and run '
            f"`manage.py migrate --database {using}`, or name a listed database."
        )
    return (
        f"The outbox is in {alias()!r}, not in {using!r}. Leave out using=, or list both in "
        'OUTBOX["DATABASES"].'
    )


class Helper(Protocol):
    """A thread of a process, as the process starts and stops it."""

    def start(self) -> None:
        """Start it."""

    def stop(self) -> None:
        """Stop it."""


HelperT = TypeVar("HelperT", bound=Helper)


class OnEach(Generic[HelperT]):
    """One helper for each database, which start and stop at the same time.

    Args:
        members: by alias. So a database that does not answer stops only its own helper.
    """

    def __init__(self, members: Mapping[str, HelperT]) -> None:
        self.members = members

    def start(self) -> None:
        """Start all."""
        for one in self.members.values():
            one.start()

    def stop(self) -> None:
        """Stop all; wait as long as the slowest one does."""
        threads = [threading.Thread(target=one.stop) for one in self.members.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def on_each(step: Callable[[], object]) -> None:
    """Run a step for each database with an outbox. One that fails prevents no other one.

    Raises:
        Exception: the error of the first step that failed, after all have run. A note of it names
            the database. The errors of the others are logged.
    """
    errors: list[Exception] = []
    for using in aliases():
        try:
            with serving(using):
                step()
        except Exception as error:
            error.add_note(f"In the database {using}.")
            if errors:
                logger.exception("The step failed in the database %s, too.", using)
            errors.append(error)
    if errors:
        raise errors[0]


ViewT = TypeVar("ViewT", bound=Callable[..., Any])


def outside_of_transactions(view: ViewT) -> ViewT:
    """Let ATOMIC_REQUESTS of no database open a transaction around a view.

    Such a transaction would also wait for a database that does not answer.
    """
    return reduce(
        lambda known, alias: transaction.non_atomic_requests(using=alias)(known),
        settings.DATABASES,
        view,
    )


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
