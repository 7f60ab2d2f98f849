"""Faults on request: the development drawer asks the supervisor to end a program for a while.

A request is an empty file in a folder that only the supervisor's user may open. So no port is open,
and no other user or host can send one. The supervisor writes its state into the same folder.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shop.up.errors import UpError
from shop.up.files import read_json, write_json

STATE = "state.json"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A program that is killed, and the seconds until it starts again."""

    program: str
    seconds: float


FAULTS: Mapping[str, Fault] = {
    "kill-worker": Fault(program="worker", seconds=3),
    "stop-broker": Fault(program="broker", seconds=30),
    "bank-down": Fault(program="bank", seconds=30),
}


class Interrupter(Protocol):
    """The part of the supervisor that faults use."""

    def pid_of(self, name: str) -> int | None: ...

    def interrupt(self, name: str, *, seconds: float) -> None: ...


class Control:
    """The supervisor's end: carry out the requests, and write which faults are possible.

    Raises UpError if the folder belongs to another user, or others may open it.
    """

    def __init__(
        self, folder: Path, supervisor: Interrupter, report: Callable[[str], object]
    ) -> None:
        self._folder, self._supervisor, self._report = folder, supervisor, report
        folder.mkdir(mode=0o700, exist_ok=True)
        _require_private(folder)
        self._possible = [
            name for name, fault in FAULTS.items() if supervisor.pid_of(fault.program) is not None
        ]
        self._until: dict[str, float] = {}
        for name in FAULTS:
            (folder / name).unlink(missing_ok=True)
        self._write()

    def check(self) -> None:
        """Carry out the requests that have arrived, each once."""
        for name in self._possible:
            if _take(self._folder / name):
                self._carry_out(name, FAULTS[name])

    def close(self) -> None:
        """Remove the state, so that the drawer offers no buttons."""
        (self._folder / STATE).unlink(missing_ok=True)

    def _carry_out(self, name: str, fault: Fault) -> None:
        self._report(
            f"The drawer kills {fault.program}, which starts again in {fault.seconds:g} s."
        )
        self._until[name] = time.time() + fault.seconds
        self._supervisor.interrupt(fault.program, seconds=fault.seconds)
        self._write()

    def _write(self) -> None:
        write_json(self._folder / STATE, {"possible": self._possible, "until": self._until})


@dataclass(frozen=True, kw_only=True)
class ControlState:
    """The faults that are possible, and the seconds that each one in effect lasts."""

    possible: list[str]
    seconds_left: dict[str, float]


def state_of(folder: Path) -> ControlState:
    """Return the supervisor's state; no fault is possible while none runs."""
    state, now = read_json(folder / STATE), time.time()
    return ControlState(
        possible=[name for name in state.get("possible", []) if name in FAULTS],
        seconds_left={
            name: until - now for name, until in state.get("until", {}).items() if until > now
        },
    )


def request(folder: Path, name: str) -> None:
    """Ask the supervisor for a fault. A repetition before it acts changes nothing.

    Raises:
        KeyError: there is no such fault.
    """
    FAULTS[name]
    os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600))


def _take(path: Path) -> bool:
    """Remove a request. Return whether there was one of our user."""
    try:
        found = path.lstat()
        path.unlink()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def _require_private(folder: Path) -> None:
    found = folder.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not is_ours or found.st_mode & 0o077:
        raise UpError(f"{folder} is open to other users. Remove it, and start again.")
