"""Report the queues that take no message from this process, until one takes a message.

A thread keeps a row for it in the database whose messages were refused: other processes see the
row, and it is silent when this process has ended. A process that sends to such a queue ends the
refusals of all: the one that was refused may never send to it again. A sender only reads; the
thread writes, since a write may wait for another process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from uuid import uuid4

from .refusal_keeper import Keeper


class _Refusals:
    """The refused queues of this process, by database."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keepers: dict[str, Keeper] = {}
        # Containers with one host name may have processes with one id.
        self._instance = uuid4().hex[:8]
        #: Are called with a queue that takes messages again.
        self.forgetters: list[Callable[[str], None]] = []

    def keeper(self, using: str) -> Keeper:
        from outbox.deliveries.heartbeat import own_name  # needs the models

        with self._lock:
            if using not in self._keepers:
                name = f"{own_name()}/{self._instance}"
                self._keepers[using] = Keeper(using, name, self._accepted_elsewhere)
            return self._keepers[using]

    def end_own(self, queue: str) -> None:
        for keeper in list(self._keepers.values()):
            keeper.end_own(queue)

    def own(self) -> set[str]:
        # `list` copies at once: other threads change the keepers and their queues.
        return {one for keeper in list(self._keepers.values()) for one in list(keeper.refused)}

    def _accepted_elsewhere(self, queue: str) -> None:
        self.end_own(queue)  # in the other databases
        for forget in self.forgetters:
            forget(queue)


def note(queue: str, cause: str, *, using: str, is_asked: bool = True) -> None:
    """Report that a queue takes no message from this process. Return at once, and never raise.

    Args:
        queue: its name.
        cause: why, without personal data.
        using: the database whose message was refused.
        is_asked: the broker has refused it. False: it is not asked again for some seconds.
    """
    _refusals.keeper(using).note(queue, cause, is_asked=is_asked)


def is_any_refused(using: str) -> bool:
    """Return whether some queue takes no message. It reads the database every four seconds."""
    return bool(_refusals.own() or _refusals.keeper(using).others())


def note_accepted(queue: str, *, using: str) -> None:
    """Report that a queue has taken a message. It ends the refusals of all processes.

    They end when the queue has refused no message for a heartbeat. Cost: none, but for a read of
    the database every four seconds.
    """
    end_own(queue)
    _refusals.keeper(using).end_others(queue)


def end_own(queue: str) -> None:
    """Report that a queue has taken a message, without a look at other processes."""
    _refusals.end_own(queue)


def own_queues() -> set[str]:
    """Return the queues that take no message from this process."""
    return _refusals.own()


def when_accepted_elsewhere(forget: Callable[[str], None]) -> None:
    """Call a function with each queue that takes messages of another process again."""
    _forgetters.append(forget)
    _refusals.forgetters.append(forget)


_forgetters: list[Callable[[str], None]] = []
_refusals = _Refusals()


def _renew() -> None:
    # A forked child has no thread, and was refused nothing.
    global _refusals
    _refusals = _Refusals()
    _refusals.forgetters.extend(_forgetters)


os.register_at_fork(after_in_child=_renew)
