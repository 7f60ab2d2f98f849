"""Crash points: the next process that reaches a requested point dies there.

The points of the outbox are its own (`outbox.failpoints`). Two more are in a handler, before and
after its call to the bank or to the mail server.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from outbox.deliveries import failpoints

BEFORE_CALL = "before_call"
AFTER_CALL = "after_call"

ALL = (*failpoints.ALL, BEFORE_CALL, AFTER_CALL)


def ask_for(folder: Path, point: str) -> None:
    """Let one process die at this point."""
    _file(folder, point).touch()


def take_back(folder: Path, point: str) -> bool:
    """Return whether no process reached the point, and disarm it."""
    return _is_taken(_file(folder, point))


def arm() -> None:
    """Do so in this process and in those that it forks; for a process of the chaos run alone."""
    if "CHAOS_DIR" not in os.environ:
        return
    for point in failpoints.ALL:
        failpoints.arm(point, partial(reach, point))
    send = httpx.HTTPTransport.handle_request

    def between_points(self: httpx.HTTPTransport, request: httpx.Request) -> Any:
        reach(BEFORE_CALL)
        answer = send(self, request)
        reach(AFTER_CALL)
        return answer

    httpx.HTTPTransport.handle_request = between_points  # type: ignore[method-assign]


def reach(point: str) -> None:
    if _is_taken(_file(Path(os.environ["CHAOS_DIR"]), point)):
        os.kill(os.getpid(), signal.SIGKILL)


def _file(folder: Path, point: str) -> Path:
    return folder / f"die-{point}"


def _is_taken(file: Path) -> bool:
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True
