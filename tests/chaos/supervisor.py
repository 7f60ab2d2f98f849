"""Processes that are restarted as by a supervisor, and killed and frozen by faults."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil

from tests.chaos.stack import QUIET, Stack


class Supervisor:
    """Processes by name. A process that dies is restarted, unless a fault keeps it stopped.

    Attributes:
        stack: starts and kills the processes.
        commands: the command of each process.
        kills: processes that faults have killed.
        restarts: processes and servers that have been started again.
        surprises: ends of processes that no fault has caused.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.commands: dict[str, Sequence[str]] = {}
        self.kills = self.restarts = 0
        self.surprises: list[str] = []
        self._held: set[str] = set()
        self._groups: list[int] = []
        self._lock = threading.RLock()
        self._over = threading.Event()

    def start_all(self) -> None:
        """Start each process that does not run yet, and restart the ones that end."""
        for name in self.commands:
            if self.pid(name) is None:
                self._start(name)
        threading.Thread(target=self._keep, daemon=True).start()

    def close(self) -> None:
        """Kill everything, with the orphans of killed parents."""
        self._over.set()
        with self._lock:
            self.stack.stop_all()
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        self._groups.clear()

    # --- for faults -------------------------------------------------------------------------------

    def pid(self, name: str) -> int | None:
        with self._lock:
            process = self.stack._processes.get(name)
            return process.pid if process and process.poll() is None else None

    def names(self, kind: str) -> list[str]:
        """The processes of a kind: "worker" names "worker" and "worker-2"."""
        return [name for name in self.commands if name.split("-")[0] == kind]

    def children(self, name: str) -> list[int]:
        if (pid := self.pid(name)) is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(pid).children()]
        return []

    def kill_pid(self, pid: int | None) -> None:
        """SIGKILL one process alone."""
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills += 1

    def kill(self, name: str) -> None:
        """SIGKILL a process with its children, as when its machine goes away."""
        with self._lock:
            if self.pid(name) is not None:
                self.stack.kill(name)
                self.kills += 1

    def hold_down(self, name: str) -> None:
        """Stop a process, and do not restart it."""
        with self._lock:
            self._held.add(name)
            if self.pid(name) is not None:
                self.stack.kill(name)

    @contextmanager
    def down(self, name: str) -> Iterator[None]:
        """Kill a process, and keep it stopped for the block."""
        self.hold_down(name)
        self.kills += 1
        try:
            yield
        finally:
            self._held.discard(name)
            self._start(name)
            self.restarts += 1

    @contextmanager
    def frozen(self, pid: int | None) -> Iterator[None]:
        """Pause a process for the block (SIGSTOP)."""
        if pid is None:
            yield
            return
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def standing_still(self, name: str) -> Iterator[None]:
        """Pause a process and its children for the block."""
        self.stack.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self.stack.signal(name, signal.SIGCONT)

    @contextmanager
    def beside(self, name: str, command: Sequence[str]) -> Iterator[None]:
        """Run an additional process for the block."""
        self.stack.start(name, command)
        try:
            yield
        finally:
            self.kill(name)

    # --- commands ---------------------------------------------------------------------------------

    def worker_command(self, name: str) -> list[str]:
        if self.stack.is_local:
            return self._work("--processes", "3")
        return self._celery("worker", "-n", f"{name}@%h", "-X", "outbox", "-c", "3", *QUIET)

    def relay_command(self, name: str) -> list[str]:
        if self.stack.is_local:
            return self._work("--queue", "outbox")
        return self._celery("worker", "-n", f"{name}@%h", "-Q", "outbox", "--pool", "solo", *QUIET)

    def beat_command(self) -> list[str]:
        return self._celery("beat", "--loglevel", "INFO", "--pidfile", "")

    def _work(self, *arguments: str) -> list[str]:
        return [sys.executable, "manage.py", "outbox", "work", "--stop-seconds", "5", *arguments]

    def _celery(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "celery", "--quiet", "-A", "shop", *arguments]

    # --- restarts ---------------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        with self._lock:
            self._groups.append(self.stack.start(name, self.commands[name]))

    def _keep(self) -> None:
        while not self._over.wait(0.2):
            for name in self.commands:
                self._keep_one(name)

    def _keep_one(self, name: str) -> None:
        with self._lock:
            if self._over.is_set() or name in self._held or self.pid(name) is not None:
                return
            ended = self.stack._processes.get(name)
            if ended is not None and ended.returncode != -signal.SIGKILL:
                self.surprises.append(f"{name} ended with {ended.returncode}")
            self._start(name)
            self.restarts += 1
