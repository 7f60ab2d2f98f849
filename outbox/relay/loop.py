"""The relay's waiting loop: two threads in one process, or one where a pool runs deliveries.

One thread relays until a pass has started a delivery of an inline handler. It then runs this
delivery itself, on an open connection, and the other thread relays. Meanwhile all other deliveries
go to the workers. Workers also run a delivery that shares its message or was sent before. So an
inline handler that is slow or hangs delays no other. One that kills its process does so once. A
backlog is processed by the workers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from django.db import connections

from outbox import databases
from outbox.conf import conf
from outbox.deliveries import heartbeat
from outbox.deliveries.connections import drop_all
from outbox.deliveries.transient_errors import DatabaseAccess, WaitGivenUp, is_transient
from outbox.fork_safety import apart_from_forks
from outbox.formatting import one_line
from outbox.models import Delivery
from outbox.privacy.masking import masked_patterns
from outbox.transports.base import Intake, Message, Transport
from outbox.transports.inline import InlineTransport

from .passes import Pace, relay
from .publishing import BrokerUnavailable

logger = logging.getLogger("outbox.loop")

_STOP_SECONDS = 10.0

#: Seconds for which the thread that waits for its turn keeps its connections.
_WARM_SECONDS = 30.0

#: Seconds for which a thread that takes its turn first waits for a nudge. The other thread has
#: just begun to run a delivery.
_FIRST_SECONDS = 0.01


class Relays(databases.OnEach["RelayLoop"]):
    """The relays of a process, one for each database."""

    def nudge(self, using: str | None = None) -> None:
        """Run a pass of the relay of a database now. None: of each."""
        for alias, relay_loop in self.members.items():
            if using in (None, alias):
                relay_loop.nudge()


class RelayLoop:
    """Relays until stopped: clear the nudge, run passes until one finds nothing, wait.

    Args:
        name: the process's name in heartbeats.
        transport: carries the messages.
        inline: runs the deliveries that a pass has started.
        intake: limits the claims to what this process can start soon. None: workers elsewhere run
            the messages, and get them through a broker.
        around: the context of each use of the database. By default the process may fork.
        using: the outbox's database alias.
    """

    def __init__(
        self,
        name: str,
        *,
        transport: Transport,
        inline: InlineTransport,
        intake: Intake | None = None,
        around: Callable[..., AbstractContextManager[object]] = apart_from_forks,
        using: str | None = None,
    ) -> None:
        self._name = name
        self._database = using or databases.alias()
        self._transport = transport
        self._inline = inline
        self._intake = intake
        self._around = around
        self._nudged = threading.Event()
        self._stopping = threading.Event()
        #: Held by the thread that relays.
        self._turn = threading.Lock()
        self._pace = Pace(self._rest)
        #: The error of a pass, for the heartbeat; "" after a pass that read the backlog succeeded.
        self._failure = ""
        #: Whether a pass failed, even by a transient error, since the last success of such a pass.
        self._has_failed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"outbox-relay-{number}", daemon=True)
            for number in ((1, 2) if intake is None else (1,))
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def nudge(self) -> None:
        """Run a pass now."""
        self._nudged.set()

    def stop(self) -> None:
        """End after the current pass and the running delivery; wait at most 10 s."""
        self._stopping.set()
        self._nudged.set()
        end = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        with databases.serving(self._database):
            self._take_turns()

    def _take_turns(self) -> None:
        try:
            while not self._stopping.is_set():
                self._wait_for_turn()
                try:
                    delivery = self._relay_in_turn()
                finally:
                    self._turn.release()
                if delivery is not None:
                    if self._inline.run(delivery):
                        self.nudge()
                    self._beat()  # every pass may end in an inline delivery
        finally:
            connections.close_all()

    def _wait_for_turn(self) -> None:
        """Wait, and close connections that are unused for long: they may be dead by then."""
        if not self._turn.acquire(timeout=_WARM_SECONDS):
            connections.close_all()
            self._turn.acquire()

    def _relay_in_turn(self) -> Delivery | None:
        """Relay and wait until stopped, or until a delivery is started; return that delivery."""
        seconds = _FIRST_SECONDS
        while True:
            is_nudged = self._nudged.wait(seconds)
            if self._stopping.is_set():
                return None
            self._nudged.clear()
            self._relay(is_nudged=is_nudged)
            delivery = self._inline.take()
            if delivery is not None:
                return delivery
            self._beat()  # last, so that no delivery waits for it
            seconds = 0.0 if self._stopping.is_set() else conf().POLL_SECONDS

    def _relay(self, *, is_nudged: bool) -> None:
        try:
            relay(
                publish=self._publish,
                is_nudged=is_nudged,
                is_wanted=self._may_continue,
                pace=self._pace,
                around=self._around,  # a worker of all queues forks its pool's children
                inline=self._inline,
                intake=self._intake,
            )
            self._forget_failure()
        except BrokerUnavailable as error:
            self._forget_failure()  # its database part succeeded; the broker has its own health
            logger.warning(
                "The broker takes no message (%s). Deliveries stay due in the database. Check "
                "whether it runs, its address and its permissions.",
                error,
            )
            if self._inline.started is None:
                self._wait_for_broker()
        except Exception as error:  # a relay that stops would stop everything
            using = databases.alias()
            self._note_failure(error, is_passing=is_transient(error, using=using))
            drop_all()
            self._recover(DatabaseAccess(using, sleep=self._stopping.wait))

    def _note_failure(self, error: Exception, *, is_passing: bool) -> None:
        """Log the error of a pass, and keep it for the heartbeat unless the next pass may succeed.

        A deadlock, or an outage that is over when the pass is repeated, is no reason to alarm.
        """
        if is_passing:
            logger.warning("A relay pass failed with a database error. It is repeated: %s", error)
        else:
            logger.exception("A relay pass failed. It is repeated.")
        if self._has_failed or not is_passing:
            self._failure = masked_patterns(one_line(f"{type(error).__name__}: {error}"))
        self._has_failed = True

    def _recover(self, access: DatabaseAccess) -> None:
        access.after_reconnect(partial(heartbeat.report_outage, access))
        self._inline.withdraw_death(access)
        self._inline.lend_thread()
        self._wait_for_database(access)
        self._inline.forget_unless_stored(access)

    def _wait_for_database(self, access: DatabaseAccess) -> None:
        # Only where this is SQLite: a fork must not wait for the end of an outage.
        with self._around(access.using):
            try:
                access.recover()
            except WaitGivenUp as error:
                logger.info("%s", error)
            except Exception:
                logger.exception(
                    "A step of the relay after a database outage failed. The relay continues."
                )
                drop_all()

    def _may_continue(self) -> bool:
        """Return whether to run another pass. Store a heartbeat: passes may find work for long."""
        self._forget_failure()
        self._inline.pass_on()
        if self._inline.started is not None:
            return False
        self._beat()
        return not self._stopping.is_set()

    def _forget_failure(self) -> None:
        """Forget the error, unless the latest pass read no backlog: that may still fail."""
        if self._pace.reads_backlog:
            self._failure = ""
            self._has_failed = False

    def _rest(self, seconds: float) -> bool:
        """Wait for a nudge; return whether one arrived."""
        is_nudged = self._nudged.wait(seconds)
        self._nudged.clear()
        return is_nudged

    def _beat(self) -> None:
        with self._around():
            self._store_heartbeat()

    def _store_heartbeat(self) -> None:
        heartbeat.beat(heartbeat.Kind.RELAY, self._name, failure=self._failure)

    def _publish(self, message: Message) -> None:
        self._transport.dispatch(message)
        if self._intake is None:
            heartbeat.beat(heartbeat.Kind.BROKER, self._name)
            self._store_heartbeat()  # a pass with a slow broker takes long

    def _wait_for_broker(self) -> None:
        while not self._stopping.wait(conf().POLL_SECONDS):
            self._beat()
            if self._transport.is_available():
                logger.info("The broker is back.")
                return
