"""Messages of the broker, captured on their way, to be sent again; or shuffled in their queues."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Protocol

MOST_REPLAYED = 40
MOST_KEPT = 500


class Wiretap(Protocol):
    """What it cannot do because the broker is away, it leaves undone."""

    def record(self) -> None:
        """Note the messages that are there now, or have gone by."""

    def replay(self, rng: Random) -> None:
        """Send what was caught once more, in another order."""

    def shuffle(self, rng: Random) -> None:
        """Turn the order in every queue; nobody else reads meanwhile."""


@contextmanager
def listening(tap: Wiretap) -> Iterator[None]:
    """Catch messages for the block."""
    over = threading.Event()

    def listen() -> None:
        while not over.wait(0.02):
            tap.record()

    tap.record()  # it hears from now on
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        tap.record()  # what came between its last look and the block's end
