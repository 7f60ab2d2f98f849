"""The objects that a handler takes, enters or raises: receipts, bulk deliveries, exceptions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType

from asgiref.sync import sync_to_async

from .databases import is_in_coroutine
from .events import EventRecord

_Transaction = AbstractContextManager[None]


class PermanentFailure(Exception):
    """Raise it in a handler when no retry can help: the delivery is dead at once, with its text."""


class LeaseLost(Exception):
    """The delivery was given to another worker meanwhile; nothing of this run is kept.

    Either the handler ran longer than its lease (raise `lease=` in its `@subscribe`), or this
    process was suspended for longer than the lease.
    """


class Receipt:
    """The receipt of an `atomic=False` handler: `with receipt:` opens its one transaction.

    In an `async def` handler it is `async with receipt:`.

    Effects in the database, events emitted inside the block and the delivery's move to done
    commit in this transaction, or not at all. Entering raises `LeaseLost` if another worker has
    the delivery. A handler that returns without entering its receipt has failed.
    """

    def __init__(
        self, open_transaction: Callable[[], _Transaction], extend: Callable[[], None]
    ) -> None:
        self._open_transaction = open_transaction
        self._extend = extend
        self._transaction: _Transaction | None = None
        self.is_given = False

    def extend(self) -> None:
        """Restart the handler's lease and time limit, in full.

        A long-running handler calls it after each completed step. Do not call it from a timer:
        that would keep a handler alive that hangs. Call it with no transaction open.

        Raises:
            LeaseLost: the lease has passed, and another worker has the delivery.
            RuntimeError: a transaction is open, so the relay could not see the new lease.
        """
        self._extend()

    async def aextend(self) -> None:
        """Restart the lease and the time limit, as `extend()`, in an async handler."""
        await sync_to_async(self.extend)()

    async def __aenter__(self) -> Receipt:
        await sync_to_async(self.__enter__)()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await sync_to_async(self.__exit__)(kind, error, trace)

    def __enter__(self) -> Receipt:
        if is_in_coroutine():
            raise RuntimeError("In an async handler enter the receipt by `async with receipt:`.")
        if self._transaction is not None:
            raise RuntimeError("A handler enters its receipt once. This one entered it twice.")
        transaction = self._open_transaction()
        transaction.__enter__()
        self._transaction = transaction
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        assert self._transaction is not None
        swallowed = self._transaction.__exit__(kind, error, trace)
        self.is_given = kind is None
        return swallowed


class NotSettled(RuntimeError):
    """A bulk handler called neither `done()` nor `failed(error)` of this delivery."""


class BulkDelivery:
    """One delivery of a call of a bulk handler (`@subscribe(..., bulk=True)`).

    The handler calls `done()` once the external system has acknowledged it, or `failed(error)`. If
    the handler raises, the deliveries that it has not settled have failed with that exception.

    Attributes:
        event: the event.
        target: the target, or "" if the handler has none.
        attempt: number of this attempt, from 1.
        replays: number of replays that staff have requested. An external system that discards
            known ids needs another id for each of them.
    """

    def __init__(
        self, event: EventRecord, *, target: str = "", attempt: int = 1, replays: int = 0
    ) -> None:
        self.event = event
        self.target = target
        self.attempt = attempt
        self.replays = replays
        self.is_done = False
        self.error: Exception | None = None

    @property
    def is_settled(self) -> bool:
        """Whether `done()` or `failed()` was called."""
        return self.is_done or self.error is not None

    def done(self) -> None:
        """Record that the external system has stored it.

        Raises:
            RuntimeError: it is settled already.
        """
        self._refuse_second()
        self.is_done = True

    def failed(self, error: Exception) -> None:
        """Record why the external system has not stored it. The handler's rules apply.

        Raises:
            RuntimeError: it is settled already.
        """
        self._refuse_second()
        self.error = error

    def _refuse_second(self) -> None:
        if self.is_settled:
            raise RuntimeError(f"The delivery of {self.event.name} {self.event.id} is settled.")


@dataclass(frozen=True)
class Target:
    """A target of an event, for which a handler has a delivery of its own.

    The name is stored with the delivery, logged, and shown by commands and the admin. Nothing masks
    or blanks it, also not `redact`. So use the id of a row, not an e-mail address, phone number or
    URL. The handler reads the address from that row.

    Attributes:
        name: identifies the target, 1 to 200 characters: the id of a row.
        share: owner or tenant, for a handler with a `share_window`: "owner:7". Default: the
            event's.
    """

    name: str
    share: str | None = None
