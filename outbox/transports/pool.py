"""The threads that run the deliveries of a process without a broker, and what waits for them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

#: Weight of the latest item in the average duration.
_WEIGHT = 0.2
#: Items may wait for each thread as long as they take no more than this many seconds.
_AHEAD_SECONDS = 0.1
#: While the average item takes less than this many seconds, one may wait for each thread at least.
#: Otherwise the thread would be idle during a pass of the relay.
_SHORT_SECONDS = 0.5
#: Maximum number of items that wait for each thread.
_MOST_AHEAD = 16
#: While no thread has ended an item for so many seconds, the pool takes no more.
_STILL_SECONDS = 0.5


@dataclass(frozen=True)
class _Waiting(Generic[T]):
    item: T
    since: float = field(default_factory=time.monotonic)


class Pool(Generic[T]):
    """Runs items in threads, the oldest first, and takes few more than it can run at once.

    Args:
        size: number of threads.
        run: runs one item. It must not raise.
        after: called after an item, when its thread is idle again.
    """

    def __init__(
        self,
        size: int,
        run: Callable[[T], object],
        *,
        after: Callable[[T], object] = lambda _: None,
    ) -> None:
        self.size = size
        self._run = run
        self._after = after
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting[T]] = deque()
        self._running = self._reserved = 0
        self._is_closed = False
        #: Number of items that have ended.
        self.ended = 0
        #: Average seconds of an item, and when a thread last took one.
        self._seconds = _AHEAD_SECONDS
        self._moved_at = time.monotonic()

    def put(self, item: T) -> None:
        """Add an item. After `close` it waits until it is taken back."""
        with self._changed:
            self._waiting.append(_Waiting(item))
            self._changed.notify_all()

    @property
    def is_idle(self) -> bool:
        """Whether a thread neither runs an item, nor is reserved or needed for one that waits."""
        with self._changed:
            return not self._is_closed and self.size > self._used

    @property
    def _used(self) -> int:
        return self._running + self._reserved + len(self._waiting)

    def reserve(self) -> None:
        """Reserve an idle thread for `put_reserved`. Other items then leave one thread idle."""
        with self._changed:
            self._reserved += 1

    def put_reserved(self, item: T) -> None:
        """Add an item for which a thread is reserved, before those that wait."""
        with self._changed:
            self._reserved -= 1
            self._waiting.appendleft(_Waiting(item))
            self._changed.notify_all()

    def release(self) -> None:
        """Give up a reserved thread."""
        with self._changed:
            self._reserved -= 1
            self._changed.notify_all()

    def free(self) -> int:
        """Return the number of items that it takes now: the idle threads, and some that wait.

        Items may wait only while all of them take short.
        """
        with self._changed:
            if self._is_closed:
                return 0
            is_still = self._running and time.monotonic() - self._moved_at > _STILL_SECONDS
            ahead = 0 if is_still else self._ahead
            return max(0, self.size * (1 + ahead) - self._used)

    @property
    def _ahead(self) -> int:
        least = int(self._seconds < _SHORT_SECONDS)
        return min(_MOST_AHEAD, max(least, int(_AHEAD_SECONDS / self._seconds)))

    def work(self) -> None:
        """Run items in the calling thread until the pool is closed."""
        while (item := self._next()) is not None:
            began = time.monotonic()
            try:
                self._run(item)
            finally:
                self._note(time.monotonic() - began)
            self._after(item)

    def _next(self) -> T | None:
        with self._changed:
            while not (self._may_take or self._is_closed):
                self._changed.wait()
            if self._is_closed:
                return None
            self._running += 1
            self._moved_at = time.monotonic()
            return self._waiting.popleft().item

    @property
    def _may_take(self) -> bool:
        return bool(self._waiting) and self._running + self._reserved < self.size

    def _note(self, seconds: float) -> None:
        with self._changed:
            self._running -= 1
            self.ended += 1
            self._moved_at = time.monotonic()
            self._seconds = max(1e-4, self._seconds + _WEIGHT * (seconds - self._seconds))
            self._changed.notify_all()

    def take_back(
        self, *, seconds: float = 0.0, which: Callable[[T], bool] = lambda _: True
    ) -> list[T]:
        """Remove and return the items that have waited for `seconds` or more.

        Args:
            seconds: the least time that an item has waited.
            which: returns whether to take an item back; by default all.
        """
        now = time.monotonic()
        with self._changed:
            late = [one for one in self._waiting if now - one.since >= seconds]
            back = [one for one in late if which(one.item)]
            for one in back:
                self._waiting.remove(one)
        return [one.item for one in back]

    def close(self) -> None:
        """End each thread after its item. What waits is left to `take_back`."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
