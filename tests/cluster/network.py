"""Hosts on one machine: network namespaces on a bridge of their own, and the faults of a network.

Needs root and iproute2. The process that creates a network is the host `outside`: it reaches each
host at its address. Names have the number of that process. A network is removed with it: by its
`with` block, by the guard if the process is killed, and by the next network if both were killed.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import filters

_OWN, _NAMES = "lab", Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_HERE = Path("/proc/thread-self/ns/net")

# Waits for the end of its input, which comes when our process ends, for any reason.
_GUARD = """
cat >/dev/null
for name in $(ip netns list | cut -d' ' -f1 | grep "^$1-"); do
    kill -KILL $(ip netns pids "$name") 2>/dev/null
    ip netns delete "$name"
done
# A namespace lives as long as its last socket, and would keep its link.
for link in $(ip -o link | grep -o "$1p[0-9]*"); do ip link delete "$link"; done
ip link delete "$2" 2>/dev/null
"""


class NoNetwork(Exception):
    """No network can be created here; the text has the reason and the next step."""


class Host:
    """A host with one link, `address`, and the faults of that link.

    A filter on the link is where it reaches the bridge, so no process of the host notices it.
    """

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.name = name
        self.address = f"{network.prefix}.{number}"
        self.namespace = f"{network.id}-{name}"
        self._port = f"{network.id}p{number}"
        self._processes: list[subprocess.Popen[Any]] = []

    def create(self, bridge: str) -> None:
        _ip("netns", "add", self.namespace)
        _ip("link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns",
            self.namespace)  # fmt: skip
        _ip("link", "set", self._port, "master", bridge, "up")
        _ip("-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self.namespace, "link", "set", "eth0", "up")
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        _tc("qdisc", "add", "dev", self._port, "clsact")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread be on the host: its new sockets, and the processes that it starts."""
        with _HERE.open() as before, (_NAMES / self.namespace).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process on the host, in a session of its own. `options` are those of Popen."""
        with self.entered():
            process = subprocess.Popen(command, start_new_session=True, **options)
        self._processes.append(process)
        return process

    def number_of_processes(self) -> int:
        return len(_run("ip", "netns", "pids", self.namespace).split())

    def kill(self) -> None:
        """Cut the link, and kill all processes of the host, as a power cut does. No peer knows."""
        self.cut()
        for pid in _run("ip", "netns", "pids", self.namespace).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self.forget()

    def forget(self) -> None:
        """Wait for the end of the processes that were started here, which are killed."""
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def cut(self) -> None:
        """Let no packet pass, in either direction. Nobody gets an error."""
        self._filter("ingress", filters.everything())
        self._filter("egress", filters.everything())

    def cut_to(self, other: Host) -> None:
        """Let no packet to another host pass. Those of the other host still arrive."""
        self._filter("ingress", filters.to(other.address))

    def deafen(self) -> None:
        """Let no packet to the host pass. What it sends arrives, and it gets no answer."""
        self._filter("egress", filters.everything())

    def lose(self, percent: float) -> None:
        """Lose this share of the packets, in each direction."""
        self._filter("ingress", filters.some(percent))
        self._filter("egress", filters.some(percent))

    def slow_down(self, kilobits: int) -> None:
        """Let the host receive no more than this many kilobits a second."""
        _tc("qdisc", "replace", "dev", self._port, "root", "tbf", "rate", f"{kilobits}kbit",
            "burst", "4kb", "latency", "2s")  # fmt: skip

    def mend(self) -> None:
        """End all faults of the link."""
        for direction in ("ingress", "egress"):
            _tc("filter", "delete", "dev", self._port, direction)
        subprocess.run(
            ["tc", "qdisc", "delete", "dev", self._port, "root"], capture_output=True, check=False
        )

    def _filter(self, direction: str, code: str) -> None:
        _tc("filter", "add", "dev", self._port, direction, "bpf", "da", "bytecode", code)


class Network:
    """A bridge with hosts: `with Network(["db", "web"]) as network: network["db"].address`."""

    def __init__(self, names: Sequence[str]) -> None:
        self.id = f"{_OWN}{os.getpid()}"
        self.prefix = _free_prefix()
        self.address = f"{self.prefix}.254"
        self.range = f"{self.prefix}.0/24"
        self._hosts = {name: Host(self, name, n) for n, name in enumerate(names, start=1)}
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def names(self) -> list[str]:
        return list(self._hosts)

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __enter__(self) -> Self:
        remove_leftovers()
        self._guard = _guard(self.id, self._bridge)
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("addr", "add", f"{self.address}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for host in self._hosts.values():
                host.create(self._bridge)
        except BaseException as error:
            self._remove()
            if isinstance(error, subprocess.CalledProcessError) and _is_refusal(error.stderr):
                raise NoNetwork(
                    f"This machine allows no network namespaces ({error.stderr.strip()}). Run it "
                    "where root may create them."
                ) from None
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    @property
    def _bridge(self) -> str:
        return f"{self.id}br"

    def _remove(self) -> None:
        if self._guard is not None:
            self._guard.communicate()  # its input ends: it removes everything
            self._guard = None
        for host in self._hosts.values():
            host.forget()


def require() -> None:
    """Raise NoNetwork, with one sentence, where no network can be created."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "tc"))):
        raise NoNetwork(
            "Hosts are network namespaces: run this as root, on Linux with iproute2 "
            "(apt-get install iproute2)."
        )


def remove_leftovers() -> None:
    """Remove networks whose process, and whose guard, were killed."""
    for bridge in re.findall(rf"\b({_OWN}(\d+)br)\b", _run("ip", "-o", "link")):
        if not Path(f"/proc/{bridge[1]}").exists():
            _guard(bridge[0].removesuffix("br"), bridge[0]).communicate()


def _guard(network: str, bridge: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "guard", network, bridge],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _free_prefix() -> str:
    """Return the first three numbers of addresses that no other network of this machine has."""
    taken = _run("ip", "-o", "-4", "addr")
    numbers = [(os.getpid() + n) % 250 for n in range(250)]
    return next(f"10.214.{n}" for n in numbers if f" 10.214.{n}." not in taken)


def _enter(descriptor: int) -> None:
    """Change this thread's network namespace. Python has it since 3.12."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _is_refusal(text: str) -> bool:
    refusals = ("not permitted", "not supported", "Unknown device type", "Permission denied")
    return any(one in text for one in refusals)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _tc(*arguments: str) -> None:
    _run("tc", *arguments)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
