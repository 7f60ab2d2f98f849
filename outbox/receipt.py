"""Receipt, PermanentFailure and LeaseLost: the objects that a handler enters or raises."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

_Transaction = AbstractContextManager[None]


class PermanentFailure(Exception):
    """Raise it in a handler when no retry can help: the delivery is dead at once, with its text."""


class LeaseLost(Exception):
    """The delivery was given to another worker meanwhile; nothing of this run is kept.

    Either the handler ran longer than its lease (raise `lease=` in its `@subscribe`), or this
    process stood still.
    """


class Receipt:
    """The receipt of an `atomic=False` handler: `with receipt:` opens its one transaction.

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

    def __enter__(self) -> Receipt:
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
