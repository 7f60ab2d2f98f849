"""Start a program, read its output, and wait for conditions."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# What a test run was given (a database, a broker) must not decide what its programs choose.
NOTHING_GIVEN: Mapping[str, str | None] = dict.fromkeys(
    [
        *("REDIS_URL", "AMQP_URL", "SQS_URL", "DATABASE_URL", "BANK_URL", "EMAIL_URL"),
        *("ALLOWED_HOSTS", "DEBUG"),
    ]
)
CEILING = 120.0  # generous: it is only reached by a failure


def eventually(condition: Callable[[], object], what: str, *, within: float = CEILING) -> None:
    """Wait until the condition holds; fail with `what` if it never does."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"never happened within {within:g} s: {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return found.returncode == 0 and not found.stdout.strip().startswith("Z")


def children(pid: int) -> dict[int, str]:
    """The processes that this one has started and that still run, with their command lines."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    found = (line.split(maxsplit=2) for line in listed.splitlines())
    return {int(own): rest[0] for own, parent, *rest in found if int(parent) == pid and rest}


def descendants(pid: int) -> set[int]:
    """All processes below this one."""
    direct = set(children(pid))
    return direct.union(*map(descendants, direct))


class Running:
    """A program under test, in a session of its own; its output is collected line by line."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str | None] | None = None,
        folder: Path | None = None,
        stdout: int = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
    ) -> None:
        wanted = {**os.environ, **(environment or {})}
        self.lines: list[str] = []
        self._popen = subprocess.Popen(
            list(command),
            cwd=folder,
            env={name: value for name, value in wanted.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=pass_fds,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def has_ended(self) -> bool:
        return self._popen.poll() is not None

    def says(self, pattern: str, *, within: float = CEILING) -> re.Match[str]:
        """Wait for a line that matches; fail with the whole output if it never comes."""
        deadline = time.monotonic() + within
        while True:
            ended = self.has_ended
            if ended:
                self._reader.join(timeout=5)
            for line in list(self.lines):
                if match := re.search(pattern, line):
                    return match
            in_time = not ended and time.monotonic() < deadline
            assert in_time, f"never said {pattern!r}:\n{self.output}"
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def ends(self, *, within: float = CEILING) -> int:
        """Wait for the end; the exit code."""
        eventually(lambda: self.has_ended, f"the end; its output:\n{self.output}", within=within)
        self._reader.join(timeout=5)
        return int(self._popen.returncode)

    def end_for_sure(self) -> None:
        """For the clean-up of a test: SIGTERM and, if this does not help, SIGKILL."""
        if not self.has_ended:
            self.send(signal.SIGTERM)
            try:
                self._popen.wait(timeout=CEILING)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._popen.wait()
        self._reader.join(timeout=5)  # the output is complete, for assertions after this

    def _read(self) -> None:
        if self._popen.stdout is not None:
            with self._popen.stdout as output:
                for line in output:
                    self.lines.append(line.rstrip("\n"))
