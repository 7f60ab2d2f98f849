"""A server program that a test starts, kills, freezes and starts again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sysconfig
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which
from types import TracebackType
from typing import ClassVar, Self

import psutil
import pytest

#: Seconds. Generous: reaching it is a failure.
CEILING = 240.0

# Waits for the end of its input, which comes when our process ends, for any reason.
GUARD = """
cat >/dev/null
kill -KILL "-$1" 2>/dev/null
shift
[ $# -eq 0 ] || "$@"
"""


class ServerMissing(Exception):
    """The server's program is not installed; the text names it and the next step."""


class Server(ABC):
    """A server: `with NatsServer(folder) as server: ...`. It may be killed and started again.

    It keeps its port and folder when it is started again. `given`: the name of the environment
    variable that names a server instead. Such a server is neither started nor stopped, and a test
    that calls `kill` or `freeze` is skipped.

    Attributes:
        name: the system's name, for messages.
        command: the program and its arguments.
        variables: its environment variables, beside ours.
        afterwards: a command to run once the server has ended.
    """

    name: ClassVar[str]
    command: Sequence[str] = ()
    variables: Mapping[str, str] = {}
    afterwards: Sequence[str] = ()

    def __init__(self, folder: Path, *, given: str = "") -> None:
        self.folder = folder
        self.given = given
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def answers(self) -> bool:
        """Return whether it accepts requests."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """The process id, which is also that of its process group."""
        assert self._process, f"{self.name} does not run."
        return self._process.pid

    @property
    def log(self) -> str:
        """All that it has printed since its first start."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers."""
        try:
            if not self.given:
                self._launch()
            self._wait_for_answer()
        except BaseException:
            self._end()
            raise

    def kill(self) -> None:
        """SIGKILL the server and its children, as a power cut does."""
        self._require_own()
        self._end()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered once this returns."""
        self._require_own()
        os.killpg(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + CEILING
        while not _is_stopped(self.pid):  # a signal takes its time, in each thread
            assert time.monotonic() < deadline, f"{self.name} does not stop."
            time.sleep(0.01)

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        os.killpg(self.pid, signal.SIGCONT)

    @contextmanager
    def down(self) -> Iterator[None]:
        """Kill it for the block, and start it again at its end."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze it for the block."""
        self._require_own()
        try:
            self.freeze()
            yield
        finally:
            self.thaw()

    def _require_own(self) -> None:
        if self.given:
            pytest.skip(f"{self.given} names a {self.name}, which a test may not stop.")

    def _launch(self) -> None:
        assert not self.is_running, f"{self.name} runs already."
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**os.environ, **self.variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self.pid), *self.afterwards],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _wait_for_answer(self) -> None:
        deadline = time.monotonic() + CEILING
        while not self.answers():
            ended = not self.given and not self.is_running
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"{self.name} did not start: {self.log[-2000:]}")
            time.sleep(0.05)

    def _end(self) -> None:
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._guard:
            self._guard.communicate()  # its input ends: it runs `afterwards`
        self._process = self._guard = None


def _is_stopped(group: int) -> bool:
    """Return whether all threads of the process group are stopped. Children may have left it."""
    process = psutil.Process(group)
    children = [one for one in process.children(recursive=True) if _group_of(one.pid) == group]
    return all(_has_stopped(one) for one in [process, *children])


def _group_of(pid: int) -> int | None:
    with suppress(ProcessLookupError):
        return os.getpgid(pid)
    return None


def _has_stopped(process: psutil.Process) -> bool:
    threads = [*Path(f"/proc/{process.pid}/task").glob("*/stat")]  # of Linux
    states = [path.read_text().rpartition(")")[2].split()[0] for path in threads]
    return set(states) == {"T"} if states else process.status() == psutil.STATUS_STOPPED


def listens(host: str, port: int) -> bool:
    """Return whether a TCP connection is accepted."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def program(name: str, package: str) -> str:
    """Return the path of a program of this environment, or of the PATH.

    Raises:
        ServerMissing: there is none. The text names the package that has it.
    """
    if found := which(name, path=sysconfig.get_path("scripts")) or which(name):
        return found
    raise ServerMissing(f'{name} is missing: install the wheel "{package}".')
