"""Valkey with a replica and three Sentinels, each on a host of a network."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import redis

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
        """Start all servers. `answers` tells when they are ready."""
        self._start(self._primary, "server", _SERVER)
        replication = f"replicaof {self._primary.address} {PORT}\n"
        self._start(self._replica, "server", _SERVER + replication)
        for host in self._hosts:
            self._start(host, "sentinel", _SENTINEL)

    def answers(self) -> bool:
        """Return whether the replica has all data, and each Sentinel knows all others."""
        try:
            known = [self._sentinel(host).sentinel_master(NAME) for host in self._hosts]
            link = self._server(self._replica).info("replication").get("master_link_status")
        except redis.RedisError:
            return False
        others = len(self._hosts) - 1
        return link == "up" and all(
            (one["num-other-sentinels"], one["num-slaves"]) == (others, 1) for one in known
        )

    def has_failed_over(self) -> bool:
        """Return whether the replica has become the primary."""
        return self._server(self._replica).info("replication").get("role") == "master"

    def queue_length(self, queue: str) -> int:
        place = self._replica if self.has_failed_over() else self._primary
        return int(self._server(place).llen(queue))

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
        folder = self._folder / f"{host.name}-{kind}"
        folder.mkdir(parents=True)
        configuration = folder / "valkey.conf"
        configuration.write_text(
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
        options = ["--sentinel"] if kind == "sentinel" else []
        with (folder / "server.log").open("wb") as log:
            host.start(
                [_server(), str(configuration), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _server(self, host: Host) -> redis.Redis:
        return redis.Redis(host.address, PORT, password=PASSWORD, retry=None, socket_timeout=2)

    def _sentinel(self, host: Host) -> redis.Redis:
        return redis.Redis(host.address, SENTINEL_PORT, retry=None, socket_timeout=2)
