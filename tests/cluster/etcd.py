"""Three members of the system's etcd, each on a host of a network."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.cluster.network import Host

PORT, _PEER_PORT = 2379, 2380
#: Milliseconds. Longer than etcd's own, since the hosts share the processors of one machine.
HEARTBEAT, ELECTION = 250, 2500


class EtcdGroup:
    """A cluster of etcd. It goes on without one of its three members."""

    def __init__(self, hosts: Sequence[Host], folder: Path) -> None:
        self._hosts, self._folder = hosts, folder

    @property
    def places(self) -> list[str]:
        """Return host and port of each member."""
        return [f"{host.address}:{PORT}" for host in self._hosts]

    def start(self) -> None:
        """Start all members. `answers` returns whether they have a leader."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for host in self._hosts:
            self.restart(host)

    def restart(self, host: Host) -> None:
        """Start a member, with the files that it has left."""
        with (self._folder / f"{host.name}.log").open("ab") as log:
            host.start(
                self.command(host),
                env={"PATH": os.defpath},
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def command(self, host: Host) -> list[str]:
        """Return the command of a member, which binds to the address of its host only."""
        client, peer = f"http://{host.address}:{PORT}", _peer(host)
        options = {
            "name": host.name,
            "data-dir": str(self._folder / host.name),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": ",".join(f"{one.name}={_peer(one)}" for one in self._hosts),
            "heartbeat-interval": str(HEARTBEAT),
            "election-timeout": str(ELECTION),
            "log-level": "warn",
        }
        # The processes are killed, the machine is not.
        return ["etcd", "--unsafe-no-fsync", *(f"--{name}={one}" for name, one in options.items())]

    def answers(self) -> bool:
        """Return whether each member knows a leader."""
        return all(_is_healthy(host) for host in self._hosts)


def _peer(host: Host) -> str:
    return f"http://{host.address}:{_PEER_PORT}"


def _is_healthy(host: Host) -> bool:
    try:
        url = f"http://{host.address}:{PORT}/health"
        answer = httpx.get(url, timeout=2, trust_env=False)
        return bool(answer.json()["health"] == "true")
    except (httpx.HTTPError, ValueError, KeyError):
        return False
