"""One supervised program: its current process, its crashes, and its next start."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shop.up.processes import Process, Program

STABLE_AFTER = 20.0  # after this uptime the next crash counts as the first
MAX_CRASHES = 5
MAX_PAUSE = 10.0


@dataclass
class Slot:
    """One program, its process (if any), and its recent crashes."""

    program: Program
    process: Process | None = None
    started_at: float = 0.0
    ready: bool = False
    crashes: int = 0
    again_at: float | None = None

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def overlaps(self) -> bool:
        """Whether its next process may start beside this one, which runs."""
        return self.program.overlaps and self.process is not None and not self.has_ended

    @property
    def has_ended(self) -> bool:
        return self.process is not None and self.process.exit_code is not None

    @property
    def is_due(self) -> bool:
        """Whether the pause after a crash is over."""
        return self.again_at is not None and time.monotonic() >= self.again_at

    def started(self, process: Process) -> None:
        self.process, self.started_at = process, time.monotonic()
        self.ready, self.again_at = False, None

    def becomes_ready(self) -> bool:
        """Probe a process that was not ready yet. Return True once, when it is ready."""
        if self.process is None or self.ready or self.has_ended:
            return False
        self.ready = self.process.is_ready()
        return self.ready

    def is_late(self) -> bool:
        return not self.ready and time.monotonic() - self.started_at > self.program.ready_within

    def record_crash(self) -> float | None:
        """Record a crash. Return the seconds until the next start; None after too many crashes."""
        self.crashes = 1 if time.monotonic() - self.started_at > STABLE_AFTER else self.crashes + 1
        self.process = None
        if self.crashes >= MAX_CRASHES:
            return None
        pause = min(MAX_PAUSE, self.program.pause * 2 ** (self.crashes - 1))
        self.again_at = time.monotonic() + pause
        return float(pause)

    def stopped(self) -> None:
        self.process, self.again_at, self.crashes = None, None, 0

    def interrupted(self, seconds: float) -> None:
        """Plan the start of a program that was killed on request."""
        self.stopped()
        self.again_at = time.monotonic() + seconds

    def runs(self, paths: Sequence[Path]) -> bool:
        """Return whether one of these files (relative to the project) is code of this program."""
        code = self.program.code
        return code is not None and any(path.is_relative_to(code) for path in paths)
