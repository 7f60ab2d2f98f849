"""Crash points: the next process that reaches a requested point dies there.

The points of the outbox are its own (`outbox.failpoints`). Two more are in a handler, before and
after its call to the bank or to the mail server. One is in a web process, before a COMMIT.

A process on a host of its own (CHAOS_HOST) can stop at a point instead, until its host is lost.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.deliveries import failpoints

BEFORE_CALL = "before_call"
AFTER_CALL = "after_call"
WEB_COMMIT = "web_commit"

ALL = (*failpoints.ALL, BEFORE_CALL, AFTER_CALL)


def ask_for(folder: Path, point: str) -> None:
    """Let one process die at this point."""
    _file(folder, point).touch()


def take_back(folder: Path, point: str) -> bool:
    """Return whether no process reached the point, and disarm it."""
    return _is_taken(_file(folder, point))


def ask_to_hold(folder: Path, point: str) -> None:
    """Let one process of a host stop at this point."""
    (folder / f"hold-{point}").touch()


def holder(folder: Path, point: str) -> str:
    """Return the host of the process that stopped at the point; "" if none did."""
    file = folder / f"held-{point}"
    return file.read_text() if file.exists() else ""


def let_go(folder: Path, point: str) -> None:
    """Let that process go on, and no other stop there."""
    for kind in ("hold", "held"):
        (folder / f"{kind}-{point}").unlink(missing_ok=True)


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
    if os.environ.get("CHAOS_ROLE") == "web":
        _arm_commits()


def _arm_commits() -> None:
    commit = BaseDatabaseWrapper._commit

    def after_a_point(self: BaseDatabaseWrapper) -> Any:
        reach(WEB_COMMIT)
        return commit(self)

    BaseDatabaseWrapper._commit = after_a_point


def reach(point: str) -> None:
    folder = Path(os.environ["CHAOS_DIR"])
    if _is_taken(_file(folder, point)):
        os.kill(os.getpid(), signal.SIGKILL)
    if "CHAOS_HOST" in os.environ and _is_taken(folder / f"hold-{point}"):
        _hold(folder / f"held-{point}")


def _hold(file: Path) -> None:
    """Name our host, and wait until the file is removed, or the host is lost."""
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(os.environ["CHAOS_HOST"])
    draft.rename(file)
    while file.exists():
        time.sleep(0.01)


def _file(folder: Path, point: str) -> Path:
    return folder / f"die-{point}"


def _is_taken(file: Path) -> bool:
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True
