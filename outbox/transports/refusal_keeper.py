"""The queues that refuse the messages of one database, and the thread that stores them there."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connections

from outbox import clock
from outbox.conf import conf
from outbox.fork_safety import apart_from_forks

logger = logging.getLogger("outbox.heartbeat")

#: Seconds between two reads of the refusals of other processes. A message that was refused is sent
#: again after five seconds at the earliest. So its sender has read the refusal.
_READ_SECONDS = 4.0


@dataclass
class _Refusal:
    """A queue that took no message.

    Attributes:
        cause: text of the latest error.
        latest: time of the latest error, by `time.monotonic`.
        since: time of the first refusal in ISO 8601, by the database's clock; "" until it is known.
        is_stored: the latest refusal is stored.
        is_accepted: the queue has taken a message since.
    """

    cause: str
    latest: float
    since: str = ""
    is_stored: bool = False
    is_accepted: bool = False


class Keeper:
    """The queues that take no message from one database, of this process and of others.

    Args:
        using: the database's alias.
        name: unique name of the process.
        accepted: is called with a queue that has taken a message of another process.
    """

    def __init__(self, using: str, name: str, accepted: Callable[[str], None]) -> None:
        self._using = using
        self._name = name
        self._accepted_elsewhere = accepted
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        self._written: set[str] = set()
        self.refused: dict[str, _Refusal] = {}
        #: When queues have taken a message of this process lately, by `time.monotonic`.
        self._accepted: dict[str, float] = {}
        #: Those of them that are refused to other processes until the thread has removed them.
        self._ending: dict[str, float] = {}
        self._read_at = -1e9
        #: Queues of other processes, with the time of the earliest latest refusal.
        self._others: dict[str, datetime] = {}

    def note(self, queue: str, cause: str, *, is_asked: bool) -> None:
        with self._lock:
            known = self.refused.get(queue)
            if known is None:
                self.refused[queue] = _Refusal(cause, time.monotonic())
                self._changed.set()
            elif is_asked:
                self.refused[queue] = _Refusal(cause, time.monotonic(), known.since)
            self._start()

    def end_own(self, queue: str) -> None:
        with self._lock:
            known = self.refused.get(queue)
            if known is not None and not known.is_accepted:
                known.is_accepted = True
                self._changed.set()
                self._start()

    def end_others(self, queue: str) -> None:
        with self._lock:
            self._accepted[queue] = time.monotonic()
        if queue in self.others():
            with self._lock:
                self._ending[queue] = time.monotonic()
                self._start()

    def others(self) -> Set[str]:
        """Return the queues that take no message from other processes, as they were read last."""
        now = time.monotonic()
        # In a transaction, a failed read would end the one of the caller.
        if now - self._read_at >= _READ_SECONDS and not connections[self._using].in_atomic_block:
            try:
                self._read(now)
            except Exception as error:  # again with the next message
                logger.debug("refused queues cannot be read in %s: %s", self._using, error)
        return self._others.keys()

    def _read(self, now: float) -> None:
        """Read the refusals. End those that are older than a message that was taken lately."""
        from outbox.deliveries import refusals  # needs the models

        found = refusals.of_others(self._name, using=self._using)
        stored_now = clock.now(using=self._using) if found else None
        with self._lock:
            self._others, self._read_at = found, now
            oldest = now - 2 * _heartbeat()
            self._accepted = {one: at for one, at in self._accepted.items() if at > oldest}
            for queue in found.keys() & self._accepted.keys():
                at = self._accepted[queue]
                if stored_now and _before(stored_now, now - at) > found[queue]:
                    self._ending.setdefault(queue, at)
                    self._start()

    def _start(self) -> None:
        """Start the thread, if it does not run. The caller has the lock."""
        if self._thread is not None:
            return
        made = threading.Thread(target=self._run, name="outbox-refusals", daemon=True)
        try:
            made.start()
        except RuntimeError as error:  # no thread can be started: with the next message
            logger.debug("no thread for refused queues: %s", error)
        else:
            self._thread = made

    def _run(self) -> None:
        try:
            while self._keep():
                self._changed.wait(_heartbeat())
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None
            connections.close_all()

    def _keep(self) -> bool:
        """Store what is refused now; return whether the thread has to go on."""
        self._changed.clear()
        self._drop_accepted()
        try:
            with apart_from_forks(self._using):
                self._write()
                self._end_elsewhere()
        except Exception as error:  # the database may be down: again with the next heartbeat
            logger.debug("refused queues are not stored in %s: %s", self._using, error)
            with suppress(Exception):
                connections[self._using].close()
        with self._lock:
            if self.refused or self._written or self._ending:
                return True
            self._thread = None
            return False

    def _drop_accepted(self) -> None:
        """Forget queues that have taken a message, and refused none for a heartbeat."""
        latest = time.monotonic() - _heartbeat()
        with self._lock:
            for queue, one in list(self.refused.items()):
                if one.is_accepted and one.latest <= latest:
                    del self.refused[queue]

    def _write(self) -> None:
        from outbox.deliveries import refusals  # needs the models

        if not (self.refused or self._written):
            return
        now = clock.now(using=self._using)
        written: set[str] = set()

        def made(stored: Set[str]) -> refusals.Refused:
            self._drop_ended(self._written - stored)
            rows = self._rows(now)
            written.update(rows)
            return rows

        refusals.update(made, name=self._name, using=self._using)
        self._written = written

    def _rows(self, now: datetime) -> dict[str, dict[str, str]]:
        rows = {}
        with self._lock:
            for queue, one in self.refused.items():
                one.since, one.is_stored = one.since or now.isoformat(), True
                latest = _before(now, time.monotonic() - one.latest).isoformat()
                rows[queue] = {"cause": one.cause, "since": one.since, "latest": latest}
        return rows

    def _drop_ended(self, queues: set[str]) -> None:
        """Forget queues that another process has removed, unless they were refused since."""
        for queue in queues:
            with self._lock:
                known = self.refused.get(queue)
                if known is None or not known.is_stored:
                    continue
                del self.refused[queue]
            self._accepted_elsewhere(queue)

    def _end_elsewhere(self) -> None:
        """Remove the queues that took a message from the rows of the other processes."""
        from outbox.deliveries import refusals  # needs the models

        with self._lock:
            ending = dict(self._ending)
        if not ending:
            return
        now, here = clock.now(using=self._using), time.monotonic()
        accepted = {queue: _before(now, here - at) for queue, at in ending.items()}
        # A row shows the latest refusal of a heartbeat ago, so that it may be as young as this.
        quiet = _before(now, 2 * _heartbeat())
        left = refusals.end(accepted, quiet, own=self._name, using=self._using)
        with self._lock:
            for queue, at in ending.items():
                if queue not in left and self._ending[queue] == at:
                    del self._ending[queue]
                    self._others.pop(queue, None)


def _heartbeat() -> float:
    return conf(lenient=True).HEARTBEAT_SECONDS


def _before(now: datetime, seconds: float) -> datetime:
    return now - timedelta(seconds=seconds)
