"""Run one program: start it, show its lines, know when it is ready, stop it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shop.up.console import Console

REMEMBERED_LINES = 500


@dataclass(frozen=True, kw_only=True)
class Program:
    """A command, and how to run it.

    `stage` orders the start: all of one stage are ready before the next stage starts; the stop is
    in reverse. `ready` is polled until it is true, for at most `ready_within` seconds (None: ready
    at once). `grace` is the number of seconds for the program to end after a SIGTERM. After a
    death it is restarted in `pause` seconds, then twice as many, and so on. Changes in the folder
    `code` restart the program ("." is the whole project; None is never). If it `overlaps`, the old
    process then runs until the new one is ready, and `ready` must not take one for the other. Lines
    that match `hidden` are not shown.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[Process], bool] | None = None
    stage: int = 0
    ready_within: float = 90.0
    grace: float = 10.0
    pause: float = 0.5
    code: str | None = None
    overlaps: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    inherited: Sequence[int] = ()
    hidden: str | None = None


class Process:
    """One running program.

    It leads its own session, so a Ctrl-C in the terminal reaches the supervisor alone, and the
    program can be killed with all its children.
    """

    def __init__(self, program: Program, console: Console) -> None:
        self.program = program
        self._console = console
        self._lines: list[str] = []
        self._popen = self._spawn()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code once the program has ended (negative: the signal that killed it)."""
        return self._popen.poll()

    @property
    def last_line(self) -> str:
        return next((line for line in reversed(self._lines) if line), "")

    def has_printed(self, pattern: str) -> bool:
        """Return whether a remembered line matches."""
        return any(re.search(pattern, line) for line in list(self._lines))

    def is_ready(self) -> bool:
        return self.program.ready is None or self.program.ready(self)

    def terminate(self) -> None:
        """Send SIGTERM to the program alone: Celery and gunicorn stop their children in order."""
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGTERM)

    def clear(self) -> None:
        """Send SIGKILL to the program, if it still runs, and to all its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
        self._reader.join(timeout=2)

    def exit_description(self) -> str:
        """Return one clause: the exit code or the signal, and the last line printed."""
        code = self.exit_code or 0
        end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{end}: {self.last_line}" if self.last_line else end

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            list(self.program.command),
            cwd=self.program.folder,
            env={**os.environ, **self.program.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(self.program.inherited),
        )

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as output:
            for raw in output:
                line = raw.decode(errors="replace").rstrip()
                self._lines.append(line)
                del self._lines[:-REMEMBERED_LINES]
                if not self._is_hidden(line):
                    self._console.line(self.name, line)

    def _is_hidden(self, line: str) -> bool:
        return self.program.hidden is not None and bool(re.search(self.program.hidden, line))
