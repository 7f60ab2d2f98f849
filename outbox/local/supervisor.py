"""The supervisor of several working processes: start, restart and stop them.

It forks them after Django's set-up, so they share its memory. It has no thread and no open
connection, neither of which a fork may copy.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from django.db import connections

logger = logging.getLogger("outbox.local")

#: Seconds between two looks at the processes if no signal arrives.
_LOOK_SECONDS = 0.5
#: A process that ran for so many seconds is replaced at once. The wait for others doubles.
_STEADY_SECONDS = 10.0
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
#: The signals that end the work.
_ENDING = (signal.SIGTERM, signal.SIGINT)
#: Seconds beyond the stop time after which a process is killed.
_KILL_SECONDS = 5.0
#: Failed processes of each place, one after the other, after which the supervisor gives up.
_MOST_FAILURES = 5
#: Ends that interrupt no delivery: by itself, and by SIGTERM before it began.
_CLEAN = (0, -signal.SIGTERM)


class CannotWork(Exception):
    """No working process can begin. Another start of the command is needed, or another release."""


@dataclass
class _Place:
    """The place of one process, which is replaced when it ends.

    Attributes:
        failures: processes that failed by an exception, one soon after the other. A process that a
            signal killed is not counted: a handler may have killed it, and leases recover that.
    """

    pid: int = 0
    started_at: float = field(default_factory=time.monotonic)
    start_at: float = 0.0
    wait: float = 0.0
    failures: int = 0

    def note_end(self, status: int = 0) -> None:
        """Choose when to start the next process."""
        now = time.monotonic()
        is_steady = now - self.started_at >= _STEADY_SECONDS
        self.wait = 0.0 if is_steady else min(max(_FIRST_WAIT, self.wait * 2), _LONGEST_WAIT)
        self.failures = self.failures + 1 if status > 0 and not is_steady else 0
        self.pid, self.start_at = 0, now + self.wait


class Supervisor:
    """Runs `number` processes until SIGTERM or SIGINT. A second signal kills them.

    Args:
        number: number of processes.
        work: the work of one process, which runs in a child of this process.
        stop_seconds: seconds within which a process ends after SIGTERM.
    """

    def __init__(self, number: int, work: Callable[[], None], *, stop_seconds: float) -> None:
        self._places = [_Place() for _ in range(number)]
        self._work = work
        self._stop_seconds = stop_seconds
        self._signals: SimpleQueue[int] = SimpleQueue()
        self._is_clean = True

    def run(self) -> bool:
        """Supervise until stopped, and until all processes have ended.

        Returns:
            Whether each process had ended its deliveries before it stopped.

        Raises:
            CannotWork: each process failed soon after its start, several times.
        """
        watched = (*_ENDING, signal.SIGCHLD)
        before = [signal.signal(one, self._note_signal) for one in watched]
        try:
            while not self._is_stop_requested():
                self._reap()
                self._give_up_if_hopeless()
                for place in self._places:
                    if not place.pid and place.start_at <= time.monotonic():
                        self._start(place)
            self._stop()
            return self._is_clean
        finally:
            for one, handler in zip(watched, before, strict=True):
                signal.signal(one, handler)

    def _give_up_if_hopeless(self) -> None:
        """Raise `CannotWork`: a service manager sees it, as it sees the end of a single process."""
        if all(not place.pid and place.failures >= _MOST_FAILURES for place in self._places):
            raise CannotWork(
                f"Each working process failed {_MOST_FAILURES} times, soon after its start. The "
                "log has the exceptions. Correct their cause, and start the command again."
            )

    def _note_signal(self, number: int, _frame: object) -> None:
        self._signals.put(number)

    def _is_stop_requested(self, *, seconds: float = _LOOK_SECONDS) -> bool:
        """Wait for a signal; return whether one of those that arrived ends the work."""
        if any(not place.pid and place.start_at <= time.monotonic() for place in self._places):
            seconds = 0.0
        try:
            numbers = [self._signals.get(timeout=seconds)]
            while not self._signals.empty():
                numbers.append(self._signals.get())
        except Empty:
            return False
        return any(number != signal.SIGCHLD for number in numbers)

    def _start(self, place: _Place) -> None:
        connections.close_all()
        _flush()
        place.started_at = time.monotonic()
        # A signal to the child must not reach the parent's handler, which the child has copied.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            place.pid = os.fork()
            if not place.pid:
                self._run_child()
        except OSError as error:  # the limit of processes or of memory
            place.note_end()
            logger.error(
                "No working process could be started (%s). The next try is in %.1f s. Compare the "
                "limits of processes and of memory with --processes.",
                error,
                place.wait,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)

    def _run_child(self) -> None:
        """Work in a forked child, and end it without the parent's clean-up."""
        status = 1
        try:
            for number in (*_ENDING, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            self._work()
            status = 0
        except Exception:
            logger.exception("A working process failed.")
        finally:
            _flush()  # os._exit drops what Python has buffered
            os._exit(status)

    def _reap(self) -> None:
        for place in self._running():
            pid, status = os.waitpid(place.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                place.note_end(code)
                logger.warning(
                    "The working process %d ended with status %d. Another one starts in %.1f s.",
                    pid,
                    code,
                    place.wait,
                )

    def _running(self) -> list[_Place]:
        return [place for place in self._places if place.pid]

    def _stop(self) -> None:
        """Stop the processes, and kill them after the stop time or a second signal."""
        end = time.monotonic() + self._stop_seconds + _KILL_SECONDS
        self._send(signal.SIGTERM)
        while self._forget_ended():
            if self._is_second(end):
                self._send(signal.SIGKILL)

    def _is_second(self, end: float) -> bool:
        try:
            return self._signals.get(timeout=_LOOK_SECONDS) != signal.SIGCHLD
        except Empty:
            return time.monotonic() > end

    def _forget_ended(self) -> bool:
        """Forget the processes that have ended; return whether some still run."""
        for place in self._running():
            pid, status = os.waitpid(place.pid, os.WNOHANG)
            if pid:
                place.pid = 0
                self._is_clean &= os.waitstatus_to_exitcode(status) in _CLEAN
        return bool(self._running())

    def _send(self, number: signal.Signals) -> None:
        for place in self._running():
            os.kill(place.pid, number)


def _flush() -> None:
    """Write what Python has buffered. An output that is closed ends no process."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
