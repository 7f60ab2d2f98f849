"""Interrupt a handler that runs too long, and nothing else: not its batch, not its worker.

In a process's main thread (pools `prefork` and `solo`) by an alarm signal, which also ends a wait
for a socket. In another thread (pool `threads`) by an exception that Python raises there before its
next bytecode: a call into C that does not return is interrupted when it returns.

An interruption can be swallowed: by an `except:` of the handler's, by a library that turns all
that it catches into an error of its own, by a finalizer, whose exceptions Python drops. So it comes
again and again, until the block ends.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class TimeLimitExceeded(Exception):
    """The handler ran longer than its `time_limit`; what it did in the database is rolled back."""


class _Interrupt(BaseException):
    """No `except Exception` of a handler's catches it."""


#: Seconds that what was interrupted has for cleaning up, at most, before it is interrupted again.
_CLEAN_UP_SECONDS = 5.0


class Limit:
    """The limit of one run: `restart()` gives it its whole time again."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.again = min(seconds, _CLEAN_UP_SECONDS)
        self.is_over = False
        self._is_on = True

    def restart(self) -> None:
        """Count from now; raise `TimeLimitExceeded` if the time is up already."""

    def stop(self) -> None:
        """Interrupt nothing any more."""
        self._is_on = False

    def end(self) -> None:
        """Stop; raise `TimeLimitExceeded` if the block went on although it was interrupted."""
        self.stop()
        if self.is_over:
            raise self.exceeded()

    def exceeded(self) -> TimeLimitExceeded:
        """Return the error that says so."""
        return TimeLimitExceeded(f"It ran for more than {self.seconds:g} s and was interrupted.")


@contextmanager
def time_limit(seconds: float) -> Iterator[Limit]:
    """Interrupt the block after so many seconds.

    Raises `TimeLimitExceeded`, also where the block has swallowed the interruption.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    limit = _Alarm(seconds) if in_main_thread else _Shot(seconds)
    try:
        try:
            limit.restart()
            yield limit
        finally:
            limit.stop()
    except _Interrupt as interrupt:
        limit.stop()  # where the interruption came during the other stop()
        raise limit.exceeded().with_traceback(interrupt.__traceback__) from None
    limit.end()


class _Alarm(Limit):
    """By SIGALRM. An alarm that somebody else has set is set again afterwards."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self._theirs: Any = signal.signal(signal.SIGALRM, self._ring)
        self._their_seconds, self._their_interval = signal.getitimer(signal.ITIMER_REAL)
        self._began = time.monotonic()

    def restart(self) -> None:
        if self.is_over:
            raise self.exceeded()
        if self._is_on:
            signal.setitimer(signal.ITIMER_REAL, self.seconds, self.again)

    def stop(self) -> None:
        if self._is_on:
            super().stop()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._theirs or signal.SIG_DFL)
            self._set_theirs_again()

    def _set_theirs_again(self) -> None:
        if self._their_seconds:
            left = self._their_seconds - (time.monotonic() - self._began)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001), self._their_interval)

    def _ring(self, _number: int, _frame: object) -> None:
        if self._is_on:
            self.is_over = True
            raise _Interrupt


class _Shot(Limit):
    """By an exception that another thread has Python raise in this one."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self._target = ctypes.c_ulong(threading.get_ident())
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def restart(self) -> None:
        with self._lock:
            if self.is_over:
                raise self.exceeded()
            self._set_timer(self.seconds)

    def stop(self) -> None:
        with self._lock:
            super().stop()
            if self._timer is not None:
                self._timer.cancel()
            if self.is_over:
                _raise_in(self._target, None)  # it may still be on its way

    def _set_timer(self, seconds: float) -> None:
        """The caller holds the lock."""
        if self._timer is not None:
            self._timer.cancel()
        if self._is_on:
            self._timer = threading.Timer(seconds, self._shoot)
            self._timer.daemon = True
            self._timer.start()

    def _shoot(self) -> None:
        with self._lock:
            if self._is_on and threading.current_thread() is self._timer:
                self.is_over = True
                _raise_in(self._target, _Interrupt)
                self._set_timer(self.again)


def _raise_in(thread: ctypes.c_ulong, kind: type[BaseException] | None) -> None:
    ask: Callable[..., int] = ctypes.pythonapi.PyThreadState_SetAsyncExc
    ask(thread, ctypes.py_object(kind) if kind else None)
