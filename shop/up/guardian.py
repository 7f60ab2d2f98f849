"""Stop the programs if the supervisor itself is killed by SIGKILL.

The supervisor starts this file as a separate program, with a pipe as its standard input, and writes
a line for each program that starts or ends. The end of the pipe without a `bye` means that the
supervisor is dead. One process guards all, in the same way on Linux and macOS (PR_SET_PDEATHSIG is
Linux only, and does not reach the children of a child). It imports only the standard library, to
start fast and stay small.

    run STAGE PID GRACE     a program (leader of its process group) runs
    end PID                 it has ended
    remove PATH             a file to delete at the end
    bye                     the supervisor has stopped everything itself
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path


class Guardian:
    """The supervisor's end of the pipe.

    The guardian also holds the `inherited` descriptors. So a lock among them is free only when it
    has stopped everything.
    """

    def __init__(self, inherited: Sequence[int] = ()) -> None:
        self._inherited = tuple(inherited)
        self._facts: dict[str, str] = {}
        self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def runs(self, *, stage: int, pid: int, grace: float) -> None:
        self._learn(f"end {pid}", f"run {stage} {pid} {grace}")

    def ended(self, pid: int) -> None:
        self._facts.pop(f"end {pid}", None)
        self._write(f"end {pid}")

    def remove_at_the_end(self, path: Path) -> None:
        """Delete this file once everything has stopped."""
        self._learn(f"remove {path}", f"remove {path}")

    def check(self) -> None:
        """If the guardian was killed, start another and write all facts to it."""
        if self._process.poll() is not None:
            self._start()
            for fact in self._facts.values():
                self._write(fact)

    def dismiss(self) -> None:
        """End the guardian, since everything has stopped in order."""
        self._write("bye")
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            pass_fds=self._inherited,
        )

    def _learn(self, key: str, fact: str) -> None:
        self._facts[key] = fact
        self._write(fact)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()


def watch(lines: Iterable[str]) -> None:
    """Read the supervisor's lines. If they end without a `bye`, stop what is still running."""
    running: dict[int, tuple[int, float]] = {}
    files: list[Path] = []
    for line in lines:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "bye":
            running.clear()
            break
        if word == "run":
            stage, pid, grace = rest.split()
            running[int(pid)] = (int(stage), float(grace))
        elif word == "end":
            running.pop(int(rest), None)
        elif word == "remove":
            files.append(Path(rest))
    stop(running)
    for file in files:
        file.unlink(missing_ok=True)


def stop(running: dict[int, tuple[int, float]]) -> None:
    """Stop the process groups, the last stage first: SIGTERM, the longest grace, SIGKILL."""
    for stage in sorted({stage for stage, _ in running.values()}, reverse=True):
        members = {pid: grace for pid, (at, grace) in running.items() if at == stage}
        for pid in members:
            _send(pid, signal.SIGTERM)
        deadline = time.monotonic() + max(members.values())
        while time.monotonic() < deadline and any(_send(pid, 0) for pid in members):
            time.sleep(0.05)
        for pid in members:
            _send(-pid, signal.SIGKILL)


def _send(pid: int, number: int) -> bool:
    """Send a signal (0 only checks). Return whether the process exists."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    watch(sys.stdin)
