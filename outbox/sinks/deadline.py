"""The time limit of one call of a sink."""

from __future__ import annotations

import time


class Deadline:
    """A time limit of so many seconds from now, by the monotonic clock.

    Args:
        seconds: the limit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left, at least a millisecond: a socket takes 0 for "do not block"."""
        return max(self._end - time.monotonic(), 0.001)

    @property
    def has_passed(self) -> bool:
        return time.monotonic() >= self._end
