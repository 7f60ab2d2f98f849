"""The `on_commit` callbacks of a handler, each isolated from deliveries and other callbacks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from django.db import Error, connections

from outbox import databases, tenants
from outbox.databases import is_its_own
from outbox.deliveries.attempts import describe
from outbox.deliveries.connections import drop_interrupted, unchanged_connections
from outbox.deliveries.lease import Lease
from outbox.deliveries.time_limit import TimeLimitExceeded, time_limit
from outbox.models import Event
from outbox.subscriptions import Handler
from outbox.transports.nudge import is_nudge

from .calls import SessionWatch

logger = logging.getLogger("outbox.delivery")


class Callbacks:
    """The callbacks that a handler registers in the transaction that the caller opens next.

    They run after the receipt's commit. So an exception is logged, and the delivery stays done.
    Each has the handler's time limit. The leases of waiting deliveries are extended before it.
    Each runs in a copy of the context of its handler's call, so its events have the same cause.
    Its changes of the context or of a database session end with it.

    Args:
        handler: the handler that registers them.
        lease: lease of the current message.
        using: the outbox's database alias.
    """

    def __init__(self, handler: Handler, *, lease: Lease, using: str) -> None:
        self._handler = handler
        self._lease = lease
        self._using = using
        self._connection = connections[using]
        self._guarded_so_far = len(self._connection.run_on_commit)

    def guard(self, event: Event) -> None:
        """Wrap the callbacks registered since the last call. Call it after each handler's call.

        Args:
            event: the handled event.
        """
        if not is_its_own(self._connection):
            return  # a test's: it runs them itself and must see their exceptions
        # Read only now: a rollback to a savepoint replaces Django's list.
        hooks: list[Any] = self._connection.run_on_commit  # the stubs lack the third part
        context = copy_context()
        hooks[self._guarded_so_far :] = [
            (savepoints, self._guarded(function, event, context), True)
            for savepoints, function, _robust in hooks[self._guarded_so_far :]
        ]
        self._guarded_so_far = len(hooks)

    def _guarded(
        self, function: Callable[[], object], event: Event, context: Context
    ) -> Callable[[], object]:
        return function if is_nudge(function) else partial(self._run, function, event, context)

    def _run(self, function: Callable[[], object], event: Event, context: Context) -> None:
        with suppress(Error):
            self._lease.keep()
        watch = SessionWatch()
        try:
            with watch, unchanged_connections(), time_limit(self._handler.time_limit):
                context.copy().run(_call, function, event)
        except Exception as error:
            if isinstance(error, TimeLimitExceeded):
                drop_interrupted()
            logger.error(
                "The on_commit callback %s of %s failed. Its delivery is done, and the callback "
                "does not run again. Emit an event for work that must not be lost.\n%s",
                _name_of(function),
                self._handler.name,
                describe(error, event, using=self._using).traceback,
            )
        finally:
            watch.drop_changed()


def _call(function: Callable[[], object], event: Event) -> None:
    # The receipt is stored. A schema or a variable of the transaction has ended with the handler's
    # call.
    with databases.receipt_in(None), tenants.restored(event.tenant):
        function()


def _name_of(function: Callable[[], object]) -> str:
    """Return the name of a callback without its arguments, which may hold personal data."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__qualname__", type(function).__qualname__)
