"""The local transport: the process that relays also runs the deliveries, in a pool of threads.

It needs no broker. A pass claims no more than the pool can start soon, so that processes share the
work. A pass also stores the start of a delivery that would be alone in its message, if a thread is
idle. Its receipt is then the second of two commits, and not the third.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created

from outbox import databases
from outbox.deliveries import settlement
from outbox.deliveries.connections import drop, drop_all
from outbox.deliveries.transient_errors import (
    DatabaseAccess,
    drop_broken_connection,
    retry_transient,
)
from outbox.models import Delivery
from outbox.subscriptions import find

from .base import Message
from .inline import InlineTransport
from .pool import Pool

logger = logging.getLogger("outbox.local")

#: Seconds after which a message that waits for a thread is handed back, for other processes.
WAIT_SECONDS = 2.0
#: Seconds that a thread keeps a connection if `CONN_MAX_AGE` is 0, Django's default.
_KEPT_SECONDS = 60.0
#: A connection that was unused for so many seconds is tried before a delivery that has started.
_UNUSED_SECONDS = 5.0

_thread = threading.local()


@dataclass(frozen=True)
class Started:
    """A delivery that a pass has started. With `refill`, others wait for its slot."""

    delivery: Delivery
    refill: bool


def database_of(item: Started | Message) -> str | None:
    """Return the database of an item, as it names it."""
    return item.database if isinstance(item, Message) else item.delivery._state.db


class LocalTransport(InlineTransport):
    """Runs messages, and deliveries that a pass has started, in threads of this process.

    Args:
        worker: the name that a start stores.
        threads: most messages and started deliveries that run at the same time.
        queues: the queues that it serves; None: all.
        deliver: runs the handler of a started delivery.
        deliver_message: runs the deliveries of a message.
        using: the outbox's database alias.
        pool: runs the items of several transports; None: a pool of its own.
        sharing: number of transports that share the pool. Each claims its part of what is free.
    """

    def __init__(
        self,
        worker: str,
        *,
        threads: int,
        queues: Collection[str] | None,
        deliver: Callable[[Delivery], object],
        deliver_message: Callable[[Message], object],
        using: str,
        pool: Pool[Started | Message] | None = None,
        sharing: int = 1,
    ) -> None:
        super().__init__(worker, deliver)
        self.pool = pool or Pool(threads, self.run_item, after=self.refill_after)
        self._sharing = sharing
        self.wake: Callable[[], object] = lambda: None
        self._queues = queues
        self._deliver_message = deliver_message
        self._using = using
        self._has_run_out = False
        #: Whether the thread that is reserved for the started delivery may run other items.
        self._has_lent = False
        #: Items that had ended when the relay asked for free messages.
        self._ended = 0

    # --- the intake of the relay ------------------------------------------------------------------

    @property
    def serves_all(self) -> bool:
        """Whether it serves every queue."""
        return self._queues is None

    def serves(self, queue: str) -> bool:
        """Return whether it takes messages of this queue."""
        return self._queues is None or queue in self._queues

    def free(self) -> int:
        """Return the number of messages that the pool takes now."""
        self._ended = self.pool.ended
        return -(-self.pool.free() // self._sharing)

    def note_run_out(self) -> None:
        """Note that more deliveries may be due: the next thread that is idle nudges the relay.

        If an item has ended since `free`, no other one may follow. It nudges the relay at once.
        """
        self._has_run_out = True
        if self.pool.ended != self._ended:
            self.wake()

    # --- messages ---------------------------------------------------------------------------------

    def dispatch(self, message: Message) -> None:
        """Give a message to the pool."""
        self.pool.put(message)

    def nudge(self) -> None:
        """Nudge the relay of this process."""
        self.wake()

    def is_available(self) -> bool:
        """Return True: no broker is needed."""
        return True

    # --- deliveries that a pass has started -------------------------------------------------------

    def accepts(self, handler: str) -> bool:
        """Return whether a thread is idle, so that a delivery need not wait after its start.

        Return False for a handler that only a later release has. A message of it is handed back.
        """
        return self.started is None and self.pool.is_idle and find(handler) is not None

    def accept(self, delivery: Delivery, *, refill: bool) -> None:
        """Take a started delivery, before its commit, and reserve a thread for it."""
        super().accept(delivery, refill=refill)
        self.pool.reserve()

    def lend_thread(self) -> None:
        """Let other databases use the reserved thread, while this one cannot be reached."""
        if self._sharing > 1 and self.started is not None:
            self.pool.release()
            self._has_lent = True

    def pass_on(self) -> None:
        """Give the started delivery to the thread that is reserved for it."""
        started, self.started = self.started, None
        if started is not None:
            self.pool.put_reserved(Started(started, self._refill))

    def forget_unless_stored(self, access: DatabaseAccess) -> None:
        """Drop a start that is not stored, and release its thread."""
        was_started, has_lent = self.started is not None, self._has_lent
        self._has_lent = False
        super().forget_unless_stored(access)
        if has_lent and self.started is not None:
            self.pool.reserve()
        elif was_started and self.started is None and not has_lent:
            self.pool.release()

    def take(self) -> None:
        """Give the started delivery to the pool; the relay's thread runs none."""
        self.pass_on()

    # --- the pool's threads -----------------------------------------------------------------------

    def work(self) -> None:
        """Run deliveries in the calling thread until the pool is closed."""
        _thread.keeps_connections = True
        connection_created.connect(_keep, weak=False, dispatch_uid="outbox.local")
        try:
            self.pool.work()
        finally:
            connections.close_all()

    def hand_back_waiting(self, *, seconds: float = 0.0) -> None:
        """Hand back what has waited for `seconds`: it is due at once.

        Deliveries that have started wait only if their thread was lent, or if the pool is closed.
        """
        for one in self.pool.take_back(seconds=seconds, which=self._is_mine):
            self.hand_back(one)

    def _is_mine(self, one: Started | Message) -> bool:
        """Return whether an item is of this transport's database."""
        return self._sharing == 1 or database_of(one) == self._using

    def hand_back(self, one: Started | Message) -> None:
        """Hand back an item that was taken back from the pool."""
        if isinstance(one, Started):
            note, row = "no thread of its worker ran it", one.delivery
            back = partial(settlement.hand_back_started, row, note=note, using=self._using)
        else:
            back = partial(
                settlement.hand_back,
                one.pairs,
                note="no thread of its worker was idle",
                subscription=one.subscription,
                wait=0,
                using=self._using,
            )
        retry_transient(back, using=self._using)
        self._has_run_out = True

    def run_item(self, item: Started | Message) -> None:
        """Run a message or a started delivery. Never raises."""
        with databases.serving(self._using):
            self._run(item)

    def _run(self, item: Started | Message) -> None:
        try:
            _prepare_connections()
            if isinstance(item, Message):
                self._deliver_message(item)
            else:
                self._deliver(item.delivery)
        except BaseException:  # also SystemExit: the thread must not end
            logger.exception(
                "Running %s raised. A relay sends again what is not done when its lease expires.",
                _name_of(item),
            )
            drop_all()
        finally:
            _thread.used_at = time.monotonic()

    def refill_after(self, item: Started | Message | None) -> None:
        """Nudge the relay if others wait for the thread that is idle now.

        Args:
            item: what the thread has run; None: an item of another database.
        """
        if (item is not None and item.refill) or self._has_run_out:
            self._has_run_out = False
            self.wake()


def _name_of(item: Started | Message) -> str:
    if isinstance(item, Message):
        return f"a message of {item.handler} with {len(item.pairs)} deliveries"
    return f"delivery {item.delivery.pk} of {item.delivery.subscription.handler}"


def _prepare_connections() -> None:
    """Drop this thread's old and broken connections, and any transaction that was left open."""
    is_unused = time.monotonic() - getattr(_thread, "used_at", 0.0) > _UNUSED_SECONDS
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            logger.warning("A transaction was left open on %s.", connection.alias)
            drop(connection)
        drop_broken_connection(using=connection.alias)
        if is_unused and connection.connection is not None and not connection.is_usable():
            drop(connection)


def _keep(*, connection: Any, **_kwargs: Any) -> None:
    """Let a pool's thread keep a new connection for some time if `CONN_MAX_AGE` is 0."""
    is_ours = getattr(_thread, "keeps_connections", False)
    if is_ours and connection.settings_dict.get("CONN_MAX_AGE") == 0:
        connection.close_at = time.monotonic() + _KEPT_SECONDS
