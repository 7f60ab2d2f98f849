"""One working process: its relay, pool of threads, heartbeat, wake-up, periodic jobs and alerts."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Collection
from contextlib import nullcontext, suppress
from functools import partial
from queue import Empty, SimpleQueue

from django.db import connections

from outbox.alerts.watch import watch
from outbox.counting.buffer import write_all
from outbox.deliveries import heartbeat
from outbox.relay.loop import RelayLoop, Relays
from outbox.subscriptions import queues as queues_of_code
from outbox.transports import names, nudge
from outbox.transports.base import QUEUE, Message
from outbox.transports.commits import CommitWatcher
from outbox.transports.local import WAIT_SECONDS, LocalTransport, Started
from outbox.transports.local_databases import LocalTransports
from outbox.transports.notifications import Listener, is_possible
from outbox.transports.pool import Pool
from outbox.worker.delivery import deliver, deliver_started

from .periodic import PeriodicJobs

logger = logging.getLogger("outbox.local")

#: Seconds between two looks at messages that wait, or at the supervisor.
_LOOK_SECONDS = 0.5
#: Exit status of a process that was stopped before its deliveries were done.
INTERRUPTED = 1


class WorkProcess:
    """Relays and delivers in this process until SIGTERM or SIGINT. Its main thread calls `run`.

    With one thread, the main thread runs the deliveries. So an alarm signal enforces their time
    limits, also while they wait in a call into C.

    Args:
        threads: most messages that run at the same time.
        queues: the queues that it serves; empty: those of all handlers.
        stop_seconds: seconds for running messages after a signal; then the process ends.
        parent: the process id of its supervisor, if it has one. It ends when the supervisor is
            gone, and ignores SIGINT, which a terminal sends to all processes.
    """

    def __init__(
        self,
        *,
        threads: int,
        queues: Collection[str] = (),
        stop_seconds: float,
        parent: int | None = None,
    ) -> None:
        self._threads = threads
        self._queues = frozenset(queues) or None
        self._stop_seconds = stop_seconds
        self._parent = parent
        #: Signals that arrived. A signal's handler may put into this queue at any line.
        self._signals: SimpleQueue[int] = SimpleQueue()
        self._stopping = threading.Event()
        self._name = f"work@{heartbeat.own_name()}"
        self._transport = LocalTransports(threads, self._new_transport)
        self._relay = Relays({using: self._new_relay(using) for using in self._transport.each})
        for using, transport in self._transport.each.items():
            transport.wake = partial(self._relay.nudge, using)

    @property
    def served(self) -> list[str]:
        """The queues that it serves. The relay's own queue is one of them, as with Celery."""
        return sorted(self._queues or {QUEUE}.union(*queues_of_code().values()))

    def run(self) -> None:
        """Work until stopped. It ends the process if running messages take too long to stop."""
        self._watch_signals()
        helpers = self._start_helpers()
        workers = [
            threading.Thread(target=self._transport.work, name=f"outbox-work-{number}", daemon=True)
            for number in range(self._threads if self._threads > 1 else 0)
        ]
        for thread in workers:
            thread.start()
        self._relay.start()
        if not workers:
            self._transport.work()
        for thread in (*workers, *helpers):
            thread.join()
        write_all()
        connections.close_all()

    def _new_transport(
        self, using: str, pool: Pool[Started | Message] | None, sharing: int
    ) -> LocalTransport:
        return LocalTransport(
            self._name,
            threads=self._threads,
            queues=self._queues,
            deliver=partial(deliver_started, using=using),
            deliver_message=partial(self._deliver, using),
            using=using,
            pool=pool,
            sharing=sharing,
        )

    def _new_relay(self, using: str) -> RelayLoop:
        transport = self._transport.each[using]
        return RelayLoop(
            self._name,
            transport=transport,
            inline=transport,
            intake=transport,
            around=lambda *_: nullcontext(),  # this process does not fork
            using=using,
        )

    def _deliver(self, using: str, message: Message) -> None:
        deliver(
            handler_name=message.handler,
            pairs=message.pairs,
            worker=self._name,
            subscription=message.subscription,
            using=using,
        )

    def _start_helpers(self) -> list[threading.Thread]:
        """Start the threads beside relay and pool; return those that end with the process."""
        self._beats = heartbeat.threads(self._name, lambda: self.served)
        self._beats.start()
        self._alerts = watch()
        if self._alerts is not None:
            self._alerts.start()
        nudge.attach(self._nudge_own)
        targets = {"outbox-control": self._control}
        for number, using in enumerate(self._transport.each, start=1):
            # One for each database: it waits for the end of an outage.
            targets[f"outbox-hand-back-{number}"] = partial(self._hand_back_some, using)
            if waking := self._waking(using):
                targets[f"outbox-wake-up-{number}"] = waking.run
            if not names.uses(names.CELERY):
                targets[f"outbox-periodic-{number}"] = PeriodicJobs(self._stopping, using=using).run
        helpers = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in targets.items()
        ]
        for thread in helpers:
            thread.start()
        return helpers

    def _waking(self, using: str) -> Listener | CommitWatcher | None:
        """Return what finds the commits of other processes sooner than the relay's poll."""
        wake, stopping = partial(self._relay.nudge, using), self._stopping
        if is_possible(using):
            return Listener(wake, stopping=stopping, using=using)
        if connections[using].vendor == "sqlite":
            return CommitWatcher(wake, stopping=stopping, using=using)
        return None

    def _nudge_own(self, using: str) -> bool:
        """Nudge the relay of this process; return whether no other process is needed."""
        self._relay.nudge(using)
        transport = self._transport.each.get(using)  # a handler may nudge for an unlisted one
        return transport is not None and transport.serves_all and transport.free() > 0

    # --- stopping ---------------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        ignored = signal.SIGINT if self._parent else None
        for number in (signal.SIGTERM, signal.SIGINT):
            is_ignored = number == ignored
            signal.signal(number, signal.SIG_IGN if is_ignored else self._note_signal)

    def _note_signal(self, number: int, _frame: object) -> None:
        self._signals.put(number)

    def _control(self) -> None:
        """Stop after a signal, at once after a second. Until then it waits for no database."""
        try:
            while not self._is_stop_requested():
                pass
            threading.Thread(target=self._end_in_time, name="outbox-end", daemon=True).start()
            self._stop()
        finally:
            connections.close_all()

    def _is_stop_requested(self) -> bool:
        try:
            return bool(self._signals.get(timeout=_LOOK_SECONDS))
        except Empty:
            return self._parent is not None and os.getppid() != self._parent

    def _stop(self) -> None:
        logger.info("%s stops: it ends what runs, and hands back what waits.", self._name)
        self._stopping.set()
        nudge.attach(None)
        self._beats.stop()
        if self._alerts is not None:
            self._alerts.stop()
        self._transport.pool.close()
        self._relay.stop()
        self._hand_back_all()

    def _hand_back_some(self, using: str) -> None:
        """Hand back messages of a database that wait for long, until stopped."""
        try:
            while not self._stopping.wait(_LOOK_SECONDS):
                self._hand_back(using, seconds=WAIT_SECONDS)
        finally:
            connections.close_all()

    def _hand_back_all(self) -> None:
        """Hand back what waits; a database that cannot be reached delays no other."""
        threads = [
            threading.Thread(target=self._hand_back_last, args=[using], daemon=True)
            for using in self._transport.each
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _hand_back_last(self, using: str) -> None:
        try:
            self._hand_back(using)
        finally:
            connections.close_all()

    def _hand_back(self, using: str, *, seconds: float = 0.0) -> None:
        try:
            self._transport.each[using].hand_back_waiting(seconds=seconds)
        except Exception:
            logger.exception(
                "Messages that waited could not be handed back. They are sent again when their "
                "leases expire."
            )

    def _end_in_time(self) -> None:
        """End the process after the stop time, or at once after a second signal."""
        end = time.monotonic() + self._stop_seconds
        while (left := end - time.monotonic()) > 0:
            with suppress(Empty):
                self._signals.get(timeout=left)
                if self._parent is None:  # otherwise the supervisor decides
                    break
        logger.warning(
            "%s ends before its running deliveries are done. A relay records worker deaths when "
            "their leases expire.",
            self._name,
        )
        os._exit(INTERRUPTED)
