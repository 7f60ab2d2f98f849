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
import math
import os
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
_SOON_SECONDS = 0.01


class Limit:
    """The limit of one run: `restart()` gives it its whole time again.

    Between `pause()` and `resume()` nothing is interrupted, and no time counts.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.again = min(seconds, _CLEAN_UP_SECONDS)
        self.is_over = False
        self._is_on = True
        self._due = math.inf
        self._left = seconds

    def restart(self) -> None:
        """Count from now; raise `TimeLimitExceeded` if the time is up already."""

    def pause(self) -> None:
        """Interrupt nothing until `resume`; raise `TimeLimitExceeded` if the time is up already."""
        if self.is_over:
            raise self.exceeded()
        self._halt()
        self._left = max(_SOON_SECONDS, self._due - time.monotonic())

    def resume(self) -> None:
        """Interrupt again, after the time that was left."""
        if not self._is_on:
            self._is_on = True
            self._count(self._left)

    def _halt(self) -> None:
        self._is_on = False

    def _count(self, seconds: float) -> None:
        self._due = time.monotonic() + seconds

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

    Raises `TimeLimitExceeded`, also where the block has swallowed the interruption, or has turned
    it into another exception, which is its cause then.
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
    except Exception as error:
        if limit.is_over and not isinstance(error, TimeLimitExceeded):
            raise limit.exceeded() from error
        raise
    limit.end()


class _Alarm(Limit):
    """By SIGALRM. An alarm that somebody else has set is set again afterwards."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self._theirs: Any = signal.signal(signal.SIGALRM, self._ring)
        self._their_seconds, self._their_interval = signal.getitimer(signal.ITIMER_REAL)
        self._began = time.monotonic()
        self._is_stopped = False

    def restart(self) -> None:
        if self.is_over:
            raise self.exceeded()
        if self._is_on:
            self._count(self.seconds)

    def _count(self, seconds: float) -> None:
        super()._count(seconds)
        signal.setitimer(signal.ITIMER_REAL, seconds, self.again)

    def _halt(self) -> None:
        super()._halt()
        signal.setitimer(signal.ITIMER_REAL, 0)

    def stop(self) -> None:
        super().stop()
        if not self._is_stopped:
            self._is_stopped = True
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
    """By an exception that the watch has Python raise in this thread."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self._target = ctypes.c_ulong(threading.get_ident())
        # Where an interruption comes between its step and its block, this thread gets it again.
        self._lock = threading.RLock()
        self._watch = _watch

    def restart(self) -> None:
        with self._lock:
            if self.is_over:
                raise self.exceeded()
            if self._is_on:
                self._count(self.seconds)

    def _count(self, seconds: float) -> None:
        super()._count(seconds)
        self._watch.look_after(self, seconds)

    def _halt(self) -> None:
        with self._lock:
            super()._halt()
            self._watch.let_go(self)

    def stop(self) -> None:
        with self._lock:
            super().stop()
            self._watch.let_go(self)
            if self.is_over:
                _raise_in(self._target, None)  # it may still be on its way

    def shoot(self, now: float) -> None:
        """Interrupt, for the watch, if it is due by now and neither ends nor begins anew."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._is_on and self._watch.is_due(self, now):
                self.is_over = True
                _raise_in(self._target, _Interrupt)
                self._watch.look_after(self, self.again)
        finally:
            self._lock.release()


class _Watch:
    """A thread that looks after the limits of a process's other threads.

    One for all of them: to start a timer for each run takes longer than many a handler. It is not
    woken when a limit ends, which nearly all do: it finds nothing when that would have been due.
    And it shares no lock with them, which an interruption at the wrong moment would leave locked.
    """

    def __init__(self) -> None:
        self._due: dict[_Shot, float] = {}  # each change of it is one step of the interpreter
        self._looks_at = math.inf
        self._is_sooner = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def look_after(self, shot: _Shot, seconds: float) -> None:
        """Let it shoot after so many seconds from now."""
        if self._thread is None:
            self._start()
        at = self._due[shot] = time.monotonic() + seconds
        if at < self._looks_at:
            self._is_sooner.set()

    def is_due(self, shot: _Shot, now: float) -> bool:
        """Tell whether its time is up."""
        return self._due.get(shot, math.inf) <= now

    def let_go(self, shot: _Shot) -> None:
        """Look after it no more."""
        self._due.pop(shot, None)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="outbox-limits", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while True:
            self._is_sooner.clear()
            self._looks_at = math.inf  # whoever comes while this looks wakes it once more
            now = time.monotonic()
            for shot, at in list(self._due.items()):
                if at <= now:
                    shot.shoot(now)
            soonest = self._looks_at = min(list(self._due.values()), default=math.inf)
            forever = soonest == math.inf
            self._is_sooner.wait(None if forever else max(_SOON_SECONDS, soonest - now))


_watch = _Watch()


def _renew() -> None:
    # A fork takes neither the thread nor the limits, and a lock may be held for ever.
    global _watch
    _watch = _Watch()


os.register_at_fork(after_in_child=_renew)


def _raise_in(thread: ctypes.c_ulong, kind: type[BaseException] | None) -> None:
    ask: Callable[..., int] = ctypes.pythonapi.PyThreadState_SetAsyncExc
    ask(thread, ctypes.py_object(kind) if kind else None)
