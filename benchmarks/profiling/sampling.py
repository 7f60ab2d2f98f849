"""Stacks of running Python processes, sampled by py-spy."""

from __future__ import annotations

import signal
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

#: Samples per second. Only threads that hold the GIL are sampled: others wait, mostly for the
#: database.
RATE = 200
#: Packages by the name under which the table shows them. A sample belongs to its innermost frame
#: from one of them; functions of Python itself belong to their caller.
PACKAGES = {
    "outbox": "outbox",
    "benchmarks": "the handler and the producer",
    "django": "Django",
    "psycopg": "psycopg",
    "rest_framework": "Django REST framework",
    "pydantic": "pydantic",
    **dict.fromkeys(("celery", "kombu", "billiard", "redis", "vine", "amqp"), "Celery and kombu"),
    **dict.fromkeys(
        ("api", "inventory", "notifications", "orders", "payments", "shop", "webhooks"), "the shop"
    ),
}
OTHER = "Python and others"

Stacks = Counter[tuple[str, ...]]


@contextmanager
def sampled(pid: int) -> Iterator[Stacks]:
    """Sample a process and its children during the block; the stacks are there afterwards.

    Raises:
        RuntimeError: py-spy failed, for example because it must not read other processes.
    """
    found: Stacks = Counter()
    with TemporaryDirectory(prefix="profile-") as folder:
        path = Path(folder) / "stacks"
        spy = Path(sysconfig.get_path("scripts")) / "py-spy"
        options = [
            "--format",
            "raw",
            "--subprocesses",
            "--gil",
            "--rate",
            str(RATE),
        ]
        command = [str(spy), "record", *options, "--output", str(path), "--pid", str(pid)]
        recorder = subprocess.Popen(
            command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        printed = _until_it_samples(recorder)
        try:
            yield found
        finally:
            recorder.send_signal(signal.SIGINT)
            printed += recorder.communicate(timeout=60)[0]
        if not path.exists():
            raise RuntimeError(f"py-spy recorded nothing: {printed.decode()}")
        found.update(parsed(path.read_text()))


def _until_it_samples(recorder: subprocess.Popen[bytes]) -> bytes:
    """Read what py-spy prints until it samples, or until its end. A busy machine starts it late."""
    assert recorder.stdout is not None
    printed = b""
    while line := recorder.stdout.readline():
        printed += line
        if b"Sampling process" in line:
            break
    return printed


def parsed(text: str) -> Stacks:
    """Return the stacks of py-spy's raw format, outermost frame first, without line numbers."""
    found: Stacks = Counter()
    for line in text.splitlines():
        frames, _, number = line.rpartition(" ")
        stack = tuple(
            f"{one.partition(' (')[0]} ({_file_of(one)})"
            for one in frames.split(";")
            if not one.startswith("process ") and not one.startswith("thread ")
        )
        found[stack] += int(number)
    return found


def shares(stacks: Stacks) -> dict[str, float]:
    """Return the share of the samples of each package, the largest first."""
    found: Counter[str] = Counter()
    for stack, number in stacks.items():
        found[_package_of(stack)] += number
    total = sum(found.values())
    return {name: number / total for name, number in found.most_common()}


def _package_of(stack: tuple[str, ...]) -> str:
    for frame in reversed(stack):
        parts = frame.rpartition(" (")[2].rstrip(")").split("/")
        for part in parts:
            if part in PACKAGES:
                return PACKAGES[part]
    return OTHER


def _file_of(frame: str) -> str:
    return frame.rpartition(" (")[2].rstrip(")").rpartition(":")[0]
