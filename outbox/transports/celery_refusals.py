"""Report the queues that take no message of this process, until one takes a message.

A thread keeps a row for it in the database whose messages were refused: other processes see the
row, and it is silent when this process has ended. A process that sends to such a queue ends the
refusals of all: the one that was refused may never send to it again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Set
from dataclasses import dataclass

from django.db import connections

from outbox import clock
from outbox.conf import conf
from outbox.fork_safety import apart_from_forks

logger = logging.getLogger("outbox.heartbeat")


@dataclass
class _Refusal:
    """A queue that took no message.

    Attributes:
        cause: text of the latest error.
        since: time of the first refusal in ISO 8601, by the database's clock; "" until it is known.
        is_stored: the latest refusal is stored.
    """

    cause: str
    since: str = ""
    is_stored: bool = False


class _Keeper:
    """What one database's messages are refused, and the thread that stores it there.

    Args:
        using: the database's alias.
        forget: is called with a queue that has taken a message of another process.
    """

    def __init__(self, using: str, forget: Callable[[str], None]) -> None:
        self._using = using
        self._forget = forget
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        self._written: set[str] = set()
        self.refused: dict[str, _Refusal] = {}

    def note(self, queue: str, cause: str, *, is_asked: bool) -> None:
        with self._lock:
            if queue not in self.refused:
                self.refused[queue] = _Refusal(cause)
                self._changed.set()
            elif is_asked:
                known = self.refused[queue]
                known.cause, known.is_stored = cause, False
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="outbox-refusals", daemon=True
                )
                self._thread.start()

    def end(self, queue: str) -> None:
        with self._lock:
            if self.refused.pop(queue, None) is not None:
                self._changed.set()

    def _run(self) -> None:
        try:
            while self._keep():
                self._changed.wait(conf(lenient=True).HEARTBEAT_SECONDS)
        finally:
            connections.close_all()

    def _keep(self) -> bool:
        """Store what is refused now; return whether the thread has to go on."""
        self._changed.clear()
        try:
            with apart_from_forks(self._using):
                self._write()
        except Exception as error:  # the database may be down: again with the next heartbeat
            logger.debug("refused queues are not stored in %s: %s", self._using, error)
            connections[self._using].close()
        with self._lock:
            if self.refused or self._written:
                return True
            self._thread = None
            return False

    def _write(self) -> None:
        from outbox.deliveries import refusals  # needs the models

        now = clock.now(using=self._using).isoformat()
        written: set[str] = set()

        def made(stored: Set[str]) -> refusals.Refused:
            self._drop_ended(self._written - stored)
            rows = self._rows(now)
            written.update(rows)
            return rows

        refusals.update(made, using=self._using)
        self._written = written

    def _rows(self, now: str) -> dict[str, dict[str, str]]:
        with self._lock:
            for one in self.refused.values():
                one.since, one.is_stored = one.since or now, True
            return {
                queue: {"cause": one.cause, "since": one.since}
                for queue, one in self.refused.items()
            }

    def _drop_ended(self, queues: set[str]) -> None:
        """Forget queues that another process has removed, unless they were refused since."""
        for queue in queues:
            with self._lock:
                known = self.refused.get(queue)
                if known is None or not known.is_stored:
                    continue
                del self.refused[queue]
            self._forget(queue)


class _Refusals:
    """The refused queues of this process, by database."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keepers: dict[str, _Keeper] = {}
        #: By database: when it was read, and the queues that take no message of some process.
        self._read: dict[str, tuple[float, set[str]]] = {}
        #: Are called with a queue that takes messages again.
        self.forgetters: list[Callable[[str], None]] = []

    def note(self, queue: str, cause: str, *, using: str, is_asked: bool) -> None:
        with self._lock:
            keeper = self._keepers.get(using)
            if keeper is None:
                keeper = self._keepers[using] = _Keeper(using, self._forget)
        keeper.note(queue, cause, is_asked=is_asked)

    def end(self, queue: str) -> None:
        for keeper in list(self._keepers.values()):
            keeper.end(queue)

    def own(self) -> set[str]:
        return {queue for keeper in list(self._keepers.values()) for queue in keeper.refused}

    def known(self, using: str) -> set[str]:
        """Return the queues that take no message of some process, as they were read last."""
        now = time.monotonic()
        read_at, found = self._read.get(using, (-1e9, set()))
        if now - read_at < conf(lenient=True).HEARTBEAT_SECONDS:
            return found
        found = _read(using)
        self._read[using] = (now, found)
        return found

    def _forget(self, queue: str) -> None:
        for forget in self.forgetters:
            forget(queue)


def note(queue: str, cause: str, *, using: str, is_asked: bool = True) -> None:
    """Report that a queue takes no message of this process. Return at once, and never raise.

    Args:
        queue: its name.
        cause: why, without personal data.
        using: the database whose message was refused.
        is_asked: the broker has refused it. False: it is not asked again for some seconds.
    """
    _refusals.note(queue, cause, using=using, is_asked=is_asked)


def is_any_refused(using: str) -> bool:
    """Return whether some queue takes no message. At most one read of the database a heartbeat."""
    return bool(_refusals.own() or _refusals.known(using))


def note_accepted(queue: str, *, using: str) -> None:
    """Report that a queue has taken a message. It ends the refusals of all processes.

    Cost: none, but for a read of the database a heartbeat.
    """
    end_own(queue)
    known = _refusals.known(using)
    if queue in known:
        known.discard(queue)
        _end_elsewhere(queue, using)


def end_own(queue: str) -> None:
    """Report that a queue has taken a message, without a look at other processes."""
    if queue in _refusals.own():
        _refusals.end(queue)


def own_queues() -> set[str]:
    """Return the queues that take no message of this process."""
    return _refusals.own()


def when_accepted_elsewhere(forget: Callable[[str], None]) -> None:
    """Call a function with each queue that takes messages of another process again."""
    _forgetters.append(forget)
    _refusals.forgetters.append(forget)


def _read(using: str) -> set[str]:
    from outbox.deliveries import refusals  # needs the models

    if connections[using].in_atomic_block:  # a failed read would end the caller's transaction
        return set()
    try:
        return set(refusals.all_queues(using=using))
    except Exception as error:
        logger.debug("refused queues cannot be read in %s: %s", using, error)
        return set()


def _end_elsewhere(queue: str, using: str) -> None:
    from outbox.deliveries import refusals  # needs the models

    try:
        refusals.end(queue, using=using)
    except Exception as error:  # it ends with a later message
        logger.debug("the refusals of %s are not ended in %s: %s", queue, using, error)


_forgetters: list[Callable[[str], None]] = []
_refusals = _Refusals()


def _renew() -> None:
    # A forked child has no thread, and was refused nothing.
    global _refusals
    _refusals = _Refusals()
    _refusals.forgetters.extend(_forgetters)


os.register_at_fork(after_in_child=_renew)
