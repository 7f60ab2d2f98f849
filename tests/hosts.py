"""A host of its own for a test: a network namespace that can be cut off from this one.

Needs root and iproute2. Names and addresses are this process's own, so that runs do not meet.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


class Host:
    """A host that reaches this one at `address`, and nothing else."""

    def __init__(self) -> None:
        number = os.getpid() % 250
        self.name = f"outbox-test-{os.getpid()}"
        self.address = f"10.213.{number}.1"
        self.network = f"10.213.{number}.0/24"
        self._own_address = f"10.213.{number}.2"
        self._here, self._there = f"ob{os.getpid()}a", f"ob{os.getpid()}b"

    def create(self) -> None:
        _ip("netns", "add", self.name)
        _ip("link", "add", self._here, "type", "veth", "peer", "name", self._there)
        _ip("link", "set", self._there, "netns", self.name)
        _ip("addr", "add", f"{self.address}/24", "dev", self._here)
        _ip("link", "set", self._here, "up")
        _ip("-n", self.name, "addr", "add", f"{self._own_address}/24", "dev", self._there)
        _ip("-n", self.name, "link", "set", self._there, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")

    def start(
        self, command: Sequence[str], *, environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a process on the host; its output goes to the file."""
        with log.open("wb") as output:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def cut(self) -> None:
        """Let no packet pass any more, in either direction; nobody is told."""
        _ip("link", "set", self._here, "down")

    def remove(self) -> None:
        subprocess.run(["ip", "link", "delete", self._here], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)


@contextmanager
def another_host() -> Iterator[Host]:
    """Yield a host, and remove it afterwards. Skips the test where none can be created."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("Another host is a network namespace: that needs root, and iproute2.")
    host = Host()
    try:
        try:
            host.create()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"This machine allows no network namespaces: {error.stderr.decode()}")
        yield host
    finally:
        host.remove()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
