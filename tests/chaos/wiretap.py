"""Messages of the broker, captured on their way, to be sent again; or shuffled in their queues."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Protocol

MOST_REPLAYED = 40
MOST_KEPT = 500
#: Seconds for an answer of the broker. A busy one is not away: its messages would be missing.
PATIENCE = 10


class Wiretap(Protocol):
    """Records messages, and does nothing while the broker is unavailable."""

    def record(self) -> None:
        """Record the present messages, and those since the last call."""

    def replay(self, rng: Random) -> None:
        """Send the recorded messages again, in another order."""

    def shuffle(self, rng: Random) -> None:
        """Reverse the order of every queue. No worker reads meanwhile."""


@contextmanager
def listening(tap: Wiretap) -> Iterator[None]:
    """Record messages for the block."""
    over = threading.Event()

    def listen() -> None:
        while not over.wait(0.02):
            tap.record()

    tap.record()  # start recording
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        tap.record()  # the messages since its last call
