"""Valkey with a replica and three Sentinels, each on a host of a network."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shop.up.broker import _server
from tests.chaos.wiretap import Wiretap
from tests.cluster.network import Host

NAME, PASSWORD = "shop", "of-valkey"
PORT, SENTINEL_PORT = 6379, 26379

_SERVER = """
bind 127.0.0.1 {address}
port {port}
dir {folder}
requirepass {password}
masterauth {password}
appendonly yes
"""
_SENTINEL = """
bind 127.0.0.1 {address}
port {sentinel}
dir {folder}
protected-mode no
sentinel monitor {name} {primary} {port} 2
sentinel auth-pass {name} {password}
sentinel down-after-milliseconds {name} 1000
sentinel failover-timeout {name} 5000
"""


class SentinelGroup:
    """The broker of a stack: a primary on the first host, its replica, and a Sentinel on each.

    It implements `tests.chaos.broker.Broker`, as far as a broker on several hosts can.
    """

    command: Sequence[str] = ()
    variables: Mapping[str, str] = {}

    def __init__(self, hosts: Sequence[Host], folder: Path) -> None:
        self._hosts, self._folder = hosts, folder
        self._primary, self._replica = hosts[:2]
        places = ",".join(f"{host.address}:{SENTINEL_PORT}" for host in hosts)
        self.settings = {
            "REDIS_URL": f"sentinel://:{PASSWORD}@{places}/0",
            "REDIS_MASTER_NAME": NAME,
            "AMQP_URL": "",
        }

    def start(self) -> None:
        """Start all servers. `answers` returns whether they are ready."""
        self._start(self._primary, "server", _SERVER)
        replication = f"replicaof {self._primary.address} {PORT}\n"
        self._start(self._replica, "server", _SERVER + replication)
        for host in self._hosts:
            self._start(host, "sentinel", _SENTINEL)

    def answers(self) -> bool:
        """Return whether the replica has all data, and each Sentinel knows all others."""
        others = len(self._hosts) - 1
        try:
            known = [self._known(host) for host in self._hosts]
            return self._replication("master_link_status") == "up" and all(
                (one["num-other-sentinels"], one["num-slaves"]) == (others, 1) for one in known
            )
        except redis.RedisError:
            return False

    def primary(self) -> Host | None:
        """Return the host of the primary, as the first Sentinel that answers knows it."""
        for host in self._hosts:
            with suppress(redis.RedisError), _client(host, SENTINEL_PORT) as client:
                address, _port = client.sentinel_get_master_addr_by_name(NAME)
                return next(one for one in self._hosts if one.address == str(address, "ascii"))
        return None

    def has_replica(self) -> bool:
        """Return whether a replica follows the primary."""
        host = self.primary()
        if host is None:
            return False
        with suppress(redis.RedisError), _client(host, PORT, PASSWORD) as client:
            replicas = client.info("replication")
            return bool(replicas["role"] == "master" and replicas["connected_slaves"])
        return False

    def restart(self, host: Host) -> None:
        """Start the servers of a killed host again, with the files that they have left."""
        for kind in ("server", "sentinel"):
            folder = self._folder_of(host, kind)
            if folder.exists():
                self._run(host, kind, folder)

    def has_failed_over(self) -> bool:
        """Return whether the replica has become the primary."""
        # A Sentinel that promotes a replica closes the connections of its clients.
        with suppress(redis.ConnectionError):
            return self._replication("role") == "master"
        return False

    def queue_length(self, queue: str) -> int:
        place = self._replica if self.has_failed_over() else self._primary
        with _client(place, PORT, PASSWORD) as client:
            return int(client.llen(queue))

    def wipe(self) -> NoReturn:
        """Fail: a test of several hosts has its own group."""
        raise NotImplementedError("A group of Sentinels is not wiped.")

    forget = cut_clients = wipe

    def wiretap(self) -> Wiretap:
        """Fail: the wiretap knows one server."""
        raise NotImplementedError("A group of Sentinels has no wiretap.")

    def clean_up(self) -> None:
        """Do nothing: the network ends all processes of its hosts."""

    def _start(self, host: Host, kind: str, text: str) -> None:
        folder = self._folder_of(host, kind)
        folder.mkdir(parents=True)
        (folder / "valkey.conf").write_text(
            text.format(
                address=host.address,
                folder=folder,
                name=NAME,
                password=PASSWORD,
                port=PORT,
                primary=self._primary.address,
                sentinel=SENTINEL_PORT,
            )
        )
        self._run(host, kind, folder)

    def _folder_of(self, host: Host, kind: str) -> Path:
        return self._folder / f"{host.name}-{kind}"

    def _run(self, host: Host, kind: str, folder: Path) -> None:
        options = ["--sentinel"] if kind == "sentinel" else []
        with (folder / "server.log").open("ab") as log:
            host.start(
                [_server(), str(folder / "valkey.conf"), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _replication(self, name: str) -> str:
        with _client(self._replica, PORT, PASSWORD) as client:
            return str(client.info("replication").get(name))

    def _known(self, host: Host) -> dict[str, Any]:
        with _client(host, SENTINEL_PORT) as client:
            return dict(client.sentinel_master(NAME))


def _client(host: Host, port: int, password: str | None = None) -> redis.Redis:
    return redis.Redis(
        host.address, port, password=password, retry=Retry(NoBackoff(), 0), socket_timeout=2
    )
