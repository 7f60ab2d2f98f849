"""Run Python programs, each in a fork of a process that has loaded Django.

Loading Django and the shop takes most of a short command's time, and most of what the start of a
worker costs. A process that is started so is a real one: it has its own session, is killed and
stopped by signals, and forks its pool.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGTERM
from typing import IO, Any
from uuid import uuid4

import psutil

ROOT = Path(__file__).resolve().parents[2]
#: Seconds. Reaching it is a failure, also on a busy machine.
_STORED_WITHIN = 60.0


class Started:
    """A program that runs in a fork: the part of `subprocess.Popen` that the tests use."""

    def __init__(self, pid: int, status: Path) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status
        self._missed_at: float | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs. A signal's code is negative.

        Raises:
            AssertionError: it has ended, and its exit code was not stored.
        """
        if self.returncode is None and self._status.exists():
            self.returncode = int(self._status.read_text())
        elif self.returncode is None and not psutil.pid_exists(self.pid):
            # Its exit code is stored a moment after its end.
            self._missed_at = self._missed_at or time.monotonic()
            is_late = time.monotonic() - self._missed_at > _STORED_WITHIN
            assert not is_late, f"Process {self.pid} has ended, and {self._status} is missing."
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        end = time.monotonic() + (timeout or float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.01)
        return code

    def terminate(self) -> None:
        """Send SIGTERM, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, SIGTERM)


class Forks:
    """Runs programs with one environment, from the project's folder.

    Its process ends with this one, since it reads from a pipe. What it has started goes on.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._one_at_a_time = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.forks"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments: a file, `-m` and a module, or `-c` and code."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            output, errors = folder / "output", folder / "errors"
            code = self._start(arguments, output, errors, folder / "status").wait()
            texts = [one.read_text(errors="replace") for one in (output, errors)]
        return subprocess.CompletedProcess(arguments, code, *texts)

    def start(self, arguments: Sequence[str], *, log: Path) -> Started:
        """Start Python with these arguments in a new session; append its output to a file."""
        return self._start(arguments, log, log, log.parent / f"status-{uuid4().hex}")

    def end(self) -> None:
        """End the process that has loaded Django."""
        self._process.communicate()

    def _start(self, arguments: Sequence[str], output: Path, errors: Path, status: Path) -> Started:
        request = {"arguments": arguments, "files": [str(output), str(errors), str(status)]}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._one_at_a_time:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            pid = self._process.stdout.readline()
        assert pid, f"{arguments} was not started."
        return Started(int(pid), status)


def _serve(requests: IO[str], answers: IO[str]) -> list[str]:
    """Start programs as requested. In the fork of one, return its arguments."""
    for line in requests:
        request = json.loads(line)
        pid = _fork(answers, *request["files"])
        if pid is None:
            arguments: list[str] = request["arguments"]
            return arguments
        answers.write(f"{pid}\n")
        answers.flush()
    sys.exit()


def _fork(answers: IO[str], output: str, errors: str, status: str) -> int | None:
    """Return the id of a program's process. In its fork, return None.

    A process between waits for it, so that the requests go on.
    """
    reader, writer = os.pipe()
    keeper = os.fork()
    if keeper:
        os.close(writer)
        with open(reader) as answer:
            return int(answer.read())
    answers.close()
    _redirect(output, errors)
    os.close(reader)
    program = os.fork()
    if program:
        os.close(writer)
        _note_end(program, Path(status))
    os.setsid()
    os.write(writer, str(os.getpid()).encode())
    os.close(writer)
    return None


def _note_end(program: int, status: Path) -> None:
    """Wait for a process, write its exit code to a file, and end this process."""
    try:
        _pid, code = os.waitpid(program, 0)
        incomplete = status.with_suffix(".incomplete")
        incomplete.write_text(str(os.waitstatus_to_exitcode(code)))
        incomplete.rename(status)
    finally:
        os._exit(0)


def _redirect(output: str, errors: str) -> None:
    with open(os.devnull) as nothing, open(output, "ab") as out, open(errors, "ab") as err:
        for source, target in ((nothing, 0), (out, 1), (err, 2)):
            os.dup2(source.fileno(), target)


def _become(arguments: Sequence[str]) -> Any:
    """Run a program as `python` does, in this process."""
    first, *rest = arguments
    if first == "-m":
        sys.argv = rest
        return runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    if first == "-c":
        sys.argv = [first, *rest[1:]]
        return exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    sys.argv = list(arguments)
    return runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    import celery.apps.worker
    import celery.bin.celery  # noqa: F401  both are for the forks
    import django

    django.setup()
    gc.freeze()  # a collection in a fork would copy all of its memory
    # Programs write to standard output, so answers need another way.
    _become(_serve(sys.stdin, os.fdopen(os.dup(1), "w")))
