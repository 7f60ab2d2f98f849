"""Interrupt a handler that runs too long, but neither its batch nor its worker.

In a process's main thread (pools `prefork` and `solo`), an alarm signal interrupts it, also while
it waits for a socket. In another thread (pool `threads`), Python raises an exception before the
next bytecode. So a call into C is interrupted only when it returns.

An interruption can be swallowed: by an `except:` in the handler, by a library that converts all
exceptions, or by a finalizer, whose exceptions Python drops. So it repeats until the block ends.

A thread that waits for a coroutine diverts its interruptions: `worker/coroutines.py` cancels the
coroutine instead.
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
    """The handler ran longer than its `time_limit`; its database changes are rolled back."""


class Interrupt(BaseException):
    """The interruption; an `except Exception` in a handler does not catch it."""


#: Seconds that interrupted code has for clean-up before the next interruption, at most and at
#: least. With less, an alarm interrupts the handler of the alarm before, until the stack is full.
_CLEAN_UP_SECONDS = 5.0
_LEAST_CLEAN_UP_SECONDS = 0.05
_SOON_SECONDS = 0.01


class Limit:
    """The time limit of one run: `restart()` grants the whole time again.

    Between `pause()` and `resume()` it interrupts nothing, and no time counts.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.again = min(max(seconds, _LEAST_CLEAN_UP_SECONDS), _CLEAN_UP_SECONDS)
        self.is_over = False
        self._is_on = True
        self._due = math.inf
        self._left = seconds
        self._diversion: Callable[[], None] | None = None
        self._beside: Callable[[], None] | None = None

    def divert(self, diversion: Callable[[], None]) -> None:
        """Call `diversion` at each interruption from now on, in any thread, and raise nothing."""
        self._diversion = diversion

    def undivert(self, *, beside: Callable[[], None] | None = None) -> None:
        """Raise at each interruption again.

        Args:
            beside: also called at each interruption, in any thread. It ends what this thread may
                wait for in a call into C, which no exception interrupts.
        """
        self._beside = beside
        self._diversion = None

    def restart(self) -> None:
        """Restart the time now; raise `TimeLimitExceeded` if it is already up."""
        if self.is_over:
            raise self.exceeded()
        if self._is_on:
            self._count(self.seconds)

    def pause(self) -> None:
        """Interrupt nothing until `resume`; raise `TimeLimitExceeded` if the time is already up."""
        if self.is_over:
            raise self.exceeded()
        self._halt()
        self._left = max(_SOON_SECONDS, self._due - time.monotonic())

    def resume(self) -> None:
        """Continue with the remaining time."""
        if not self._is_on:
            self._is_on = True
            self._count(self._left)

    def _halt(self) -> None:
        self._is_on = False

    def _count(self, seconds: float) -> None:
        self._due = time.monotonic() + seconds

    def stop(self) -> None:
        """Interrupt nothing from now on."""
        self._is_on = False

    def end(self) -> None:
        """Stop; raise `TimeLimitExceeded` if the block continued after an interruption."""
        self.stop()
        if self.is_over:
            raise self.exceeded()

    def exceeded(self) -> TimeLimitExceeded:
        """Return the error for this limit."""
        return TimeLimitExceeded(f"It ran for more than {self.seconds:g} s and was interrupted.")


@contextmanager
def time_limit(seconds: float) -> Iterator[Limit]:
    """Interrupt the block after `seconds`.

    Raises:
        TimeLimitExceeded: the time is up, even if the block has swallowed the interruption. If
            the block has raised another exception instead, that one is the cause.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    limit = _SignalLimit(seconds) if in_main_thread else ThreadLimit(seconds)
    try:
        try:
            limit.restart()
            yield limit
        finally:
            limit.stop()
    except Interrupt as interrupt:
        limit.stop()  # if the interruption hit during the other stop()
        raise limit.exceeded().with_traceback(interrupt.__traceback__) from None
    except Exception as error:
        if limit.is_over and not isinstance(error, TimeLimitExceeded):
            raise limit.exceeded() from error
        raise
    limit.end()


class _SignalLimit(Limit):
    """Limit by SIGALRM, for the main thread. It restores an alarm that was set before."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self._previous_handler: Any = signal.signal(signal.SIGALRM, self._ring)
        self._previous_seconds, self._previous_interval = signal.getitimer(signal.ITIMER_REAL)
        self._began = time.monotonic()
        self._is_stopped = False

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
            signal.signal(signal.SIGALRM, self._previous_handler or signal.SIG_DFL)
            self._restore_previous_timer()

    def _restore_previous_timer(self) -> None:
        if self._previous_seconds:
            left = self._previous_seconds - (time.monotonic() - self._began)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001), self._previous_interval)

    def _ring(self, _number: int, _frame: object) -> None:
        if self._is_on:
            self.is_over = True
            if self._diversion is not None:
                self._diversion()
                return
            if self._beside is not None:
                self._beside()
            raise Interrupt


class ThreadLimit(Limit):
    """Limit of a thread: the watch has Python raise `Interrupt` in it.

    Args:
        seconds: after which it is interrupted.
        thread: identifier of the thread. None: the current one. Only that thread may call `stop`.
    """

    def __init__(self, seconds: float, thread: int | None = None) -> None:
        super().__init__(seconds)
        self._target = ctypes.c_ulong(thread or threading.get_ident())
        # Reentrant: an interruption between acquiring and entering the block leaves it acquired.
        self._lock = threading.RLock()
        self._watch = _watch

    def restart(self) -> None:
        with self._lock:
            super().restart()

    def _count(self, seconds: float) -> None:
        super()._count(seconds)
        self._watch.schedule(self, seconds)

    def divert(self, diversion: Callable[[], None]) -> None:
        with self._lock:
            super().divert(diversion)
            if self.is_over:
                self._receive_pending()

    def _halt(self) -> None:
        with self._lock:
            super()._halt()
            self._watch.cancel(self)

    def expire(self) -> None:
        """End the time now. Any thread may call it."""
        with self._lock:
            if self._is_on:
                self._watch.schedule(self, 0)

    def stop(self) -> None:
        with self._lock:
            super().stop()
            self._watch.cancel(self)
            if self.is_over:
                self._receive_pending()

    def _receive_pending(self) -> None:
        """Raise and catch the interruption that may still be pending.

        Clearing it by PyThreadState_SetAsyncExc(id, NULL) would leave the flag "an exception is
        pending" set for the whole process, before Python 3.13. Python 3.11 then never leaves a
        call that a trace function observes: of a debugger, or of a coverage report.
        """
        try:
            _raise_in(self._target, Interrupt)  # replaces a pending one
            while True:
                pass
        except Interrupt:
            return

    def interrupt(self, now: float) -> None:
        """Interrupt the thread if the limit is due and is not just stopping or restarting."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._is_on and self._watch.is_due(self, now):
                self.is_over = True
                self._watch.schedule(self, self.again)
                if self._diversion is not None:
                    self._diversion()
                else:
                    if self._beside is not None:
                        self._beside()
                    _raise_in(self._target, Interrupt)
        finally:
            self._lock.release()


class _Watch:
    """A thread that enforces the limits of a process's other threads.

    One thread serves all, because starting a timer per run takes longer than many handlers. A
    limit that ends in time does not wake it: the thread then finds nothing due. It shares no lock
    with the other threads, since an interruption could leave the lock acquired.
    """

    def __init__(self) -> None:
        self._due: dict[ThreadLimit, float] = {}  # each change is atomic in the interpreter
        self._wakes_at = math.inf
        self._is_sooner = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def schedule(self, limit: ThreadLimit, seconds: float) -> None:
        """Schedule an interruption in `seconds` from now."""
        if self._thread is None:
            self._start()
        at = self._due[limit] = time.monotonic() + seconds
        if at < self._wakes_at:
            self._is_sooner.set()

    def is_due(self, limit: ThreadLimit, now: float) -> bool:
        """Return whether the limit's time is up."""
        return self._due.get(limit, math.inf) <= now

    def cancel(self, limit: ThreadLimit) -> None:
        """Cancel the scheduled interruption."""
        self._due.pop(limit, None)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="outbox-limits", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while True:
            self._is_sooner.clear()
            self._wakes_at = math.inf  # a limit scheduled during this round wakes the thread again
            now = time.monotonic()
            for limit, at in list(self._due.items()):
                if at <= now:
                    limit.interrupt(now)
            soonest = self._wakes_at = min(list(self._due.values()), default=math.inf)
            forever = soonest == math.inf
            self._is_sooner.wait(None if forever else max(_SOON_SECONDS, soonest - now))


_watch = _Watch()


def _renew() -> None:
    # A fork copies neither the thread nor its limits, and a copied lock may stay acquired.
    global _watch
    _watch = _Watch()


os.register_at_fork(after_in_child=_renew)


def _raise_in(thread: ctypes.c_ulong, kind: type[BaseException]) -> None:
    set_async_exc: Callable[..., int] = ctypes.pythonapi.PyThreadState_SetAsyncExc
    set_async_exc(thread, ctypes.py_object(kind))
