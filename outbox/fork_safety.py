"""Prevent forks of a worker's pool while a thread uses SQLite.

SQLite records the locks that it holds in the process's memory. A child that is forked during a
write copies this record and never clears it. So each write of the child fails with a locked
database. https://www.sqlite.org/howtocorrupt.html, section 2.6.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from django.db import connections


class _Turn:
    """A lock that one thread at a time holds, several times if it wants, until a time limit.

    A thread whose time is over loses it to the next one. Its own `release` then does nothing.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owner: int | None = None
        self._depth = 0
        self._until = math.inf

    def acquire(self, timeout: float = math.inf) -> bool:
        """Wait until this thread has it, at most `timeout` seconds; return whether it has."""
        mine, end = threading.get_ident(), time.monotonic() + timeout
        with self._changed:
            while self._owner not in (None, mine) and time.monotonic() < self._until:
                left = min(end, self._until) - time.monotonic()
                if time.monotonic() >= end:
                    return False
                self._changed.wait(None if left == math.inf else max(left, 0.0))
            if self._owner != mine:
                self._owner, self._depth, self._until = mine, 0, math.inf
            self._depth += 1
            return True

    def release(self) -> None:
        """Give it up once. Do nothing if this thread has lost it."""
        with self._changed:
            if self._owner == threading.get_ident():
                self._depth -= 1
                if not self._depth:
                    self._owner, self._until = None, math.inf
                    self._changed.notify_all()

    def end_after(self, seconds: float) -> None:
        """Let this thread lose it after some seconds, if it has it."""
        with self._changed:
            if self._owner == threading.get_ident():
                self._until = time.monotonic() + seconds
                self._changed.notify_all()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_exc: object) -> None:
        self.release()


_using = _Turn()


@contextmanager
def apart_from_forks(using: str | None = None) -> Iterator[None]:
    """Prevent forks within the block, and close this thread's SQLite connections at its end.

    For short work in a thread of a process that forks. No SQLite file is then open at a fork.
    Connections to other databases stay open, and forks do not wait for them.

    Args:
        using: the only database alias that the block uses. None: it may use all.
    """
    files = [
        one for one in connections.all() if one.vendor == "sqlite" and using in (None, one.alias)
    ]
    if not files:
        yield
        return
    with _using:
        try:
            yield
        finally:
            for one in files:
                one.close()


@contextmanager
def once_used(
    around: Callable[[], AbstractContextManager[object]], *, at_most: float
) -> Iterator[None]:
    """Enter `around` before the first statement of this thread within the block, until its end.

    For code of the project that takes long, and that may or may not use a database. If it hangs,
    others wait for `at_most` seconds. A child that is forked later, while this thread writes to
    SQLite, cannot write.

    Args:
        around: `apart_from_forks`, or a context that does nothing.
        at_most: seconds for which forks and other uses of SQLite wait.
    """
    with ExitStack() as stack:
        entered: list[bool] = []

        def enter(
            execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
        ) -> Any:
            if not entered:
                entered.append(True)
                stack.enter_context(around())
                _using.end_after(at_most)
            return execute(sql, params, many, context)

        for one in connections.all():
            stack.enter_context(one.execute_wrapper(enter))
        yield


def _renew() -> None:
    global _using
    _using = _Turn()


os.register_at_fork(
    before=lambda: _using.acquire(),
    after_in_parent=lambda: _using.release(),
    after_in_child=_renew,
)
