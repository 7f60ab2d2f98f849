"""Signals that end the stack in order."""

from __future__ import annotations

import signal
import time
from types import FrameType

TICK = 0.05


class Stopped(Exception):
    """A signal requested the end during a wait."""


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP request the end; a later SIGINT aborts the orderly stop.

    "Later" is a second: a Ctrl-C often arrives twice at once, from the terminal and from a `make`
    that forwards it. A signal that was ignored at the start (SIGHUP under nohup) stays ignored.
    """

    def __init__(self) -> None:
        self.name = ""
        self.hurry = False
        self._at = 0.0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)

    def pause(self) -> None:
        """Wait briefly; raise Stopped if a signal has arrived."""
        if self.name:
            raise Stopped
        time.sleep(TICK)

    def ignore(self) -> None:
        """Ignore late signals after the stop, so that they do not change the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if not self.name:
            self.name, self._at = signal.Signals(number).name, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._at > 1:
            self.hurry = True
