"""The `on_commit` callbacks of a handler: an error in one, or a long one, harms nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from django.db import Error, connections

from outbox import nudge
from outbox.models import Event
from outbox.subscriptions import Handler
from outbox.transactions import is_its_own

from .attempts import describe
from .connections import drop_interrupted, unchanged_connections
from .lease import Lease
from .time_limit import TimeLimitExceeded, time_limit

logger = logging.getLogger("outbox.delivery")


class Callbacks:
    """The callbacks that a handler registers in the transaction that is about to be opened.

    They run when the receipt is committed. So what one of them raises is logged, and the delivery
    stays done. Each has the handler's time limit, and the leases of the deliveries that wait are
    extended before it.

    Args:
        handler: whose callbacks.
        lease: of the message in hand.
        using: the outbox's database alias.
    """

    def __init__(self, handler: Handler, *, lease: Lease, using: str) -> None:
        self._handler = handler
        self._lease = lease
        self._using = using
        self._connection = connections[using]
        self._others = len(self._connection.run_on_commit)

    def guard(self, events: Sequence[Event]) -> None:
        """Wrap what was registered since; call it before the transaction ends.

        Args:
            events: those that were handled in the transaction.
        """
        if not is_its_own(self._connection):
            return  # a test's: it runs them itself, and wants to see what they raise
        # Read only now: a rollback to a savepoint replaces Django's list.
        hooks: list[Any] = self._connection.run_on_commit  # the stubs lack the third part
        hooks[self._others :] = [
            (savepoints, self._guarded(function, events), True)
            for savepoints, function, _robust in hooks[self._others :]
        ]

    def _guarded(
        self, function: Callable[[], object], events: Sequence[Event]
    ) -> Callable[[], object]:
        return function if function is nudge.poke else partial(self._run, function, events)

    def _run(self, function: Callable[[], object], events: Sequence[Event]) -> None:
        with suppress(Error):
            self._lease.keep()
        try:
            with unchanged_connections(), time_limit(self._handler.time_limit):
                function()
        except Exception as error:
            if isinstance(error, TimeLimitExceeded):
                drop_interrupted()
            name = getattr(function, "__qualname__", repr(function))
            logger.error(
                "The on_commit callback %s of %s failed. Its delivery is done, and the callback "
                "does not run again. Emit an event for work that must not be lost.\n%s",
                name,
                self._handler.name,
                describe(error, *events, using=self._using).traceback,
            )
