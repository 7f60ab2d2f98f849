"""Three nodes of the system's RabbitMQ, a cluster whose queues are quorum queues."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from kombu import Connection

from tests.chaos.rabbitmq import PROGRAMS
from tests.chaos.wiretap import Wiretap
from tests.cluster.network import Host

PORT, _DISTRIBUTION_PORT = 5672, 25672
_COOKIE = "cookie-of-a-laboratory"
_PROBE = "probe"
#: A node that is cut off from both others stops its work, and begins again when it is not.
#: Nodes notice a lost one within 8 to 10 seconds.
_CONFIGURATION = """
listeners.tcp.1 = {address}:{port}
loopback_users = none
cluster_partition_handling = pause_minority
net_ticktime = 8
cluster_formation.peer_discovery_backend = classic_config
"""


class RabbitGroup:
    """The broker of a stack, one node on each host.

    It implements `tests.chaos.broker.Broker`, as far as a broker on several hosts can.

    Raises:
        FileNotFoundError: RabbitMQ is not installed.
    """

    command: Sequence[str] = ()
    variables: Mapping[str, str] = {}

    def __init__(self, hosts: Sequence[Host], folder: Path) -> None:
        if not (PROGRAMS / "rabbitmq-server").exists():
            raise FileNotFoundError("RabbitMQ is missing: apt-get install rabbitmq-server.")
        self._hosts, self._folder = hosts, folder
        self.settings = {"AMQP_URL": ";".join(map(_url, hosts)), "REDIS_URL": ""}

    def start(self) -> None:
        """Start all nodes. `answers` returns whether they are ready."""
        for host in self._hosts:
            self._prepare(host)
            self.restart(host)

    def restart(self, host: Host) -> None:
        """Start a node, with the files that it has left."""
        folder = self._folder / host.name
        with (folder / "node.log").open("ab") as log:
            host.start(
                [str(PROGRAMS / "rabbitmq-server")],
                env={**os.environ, **self._variables(host, folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def answers(self) -> bool:
        """Return whether each node answers, and knows a queue that the first one has."""
        return all(_knows_probe(host, passive=host is not self._hosts[0]) for host in self._hosts)

    has_replica = answers

    def primary(self) -> Host | None:
        """Return the host of the first node that answers: clients try them in this order."""
        return next((host for host in self._hosts if _knows_probe(host, passive=True)), None)

    def queue_length(self, queue: str) -> int:
        with Connection(self.settings["AMQP_URL"], connect_timeout=2) as connection:
            channel: Any = connection.channel()
            return int(channel.queue_declare(queue, passive=True).message_count)

    def wipe(self) -> NoReturn:
        """Fail: a test of several hosts has its own group."""
        raise NotImplementedError("A group of nodes is not wiped.")

    forget = cut_clients = wipe

    def wiretap(self) -> Wiretap:
        """Fail: the wiretap knows one node."""
        raise NotImplementedError("A group of nodes has no wiretap.")

    def clean_up(self) -> None:
        """Do nothing: the network ends all processes of its hosts."""

    def _prepare(self, host: Host) -> None:
        folder = self._folder / host.name
        folder.mkdir(parents=True)
        nodes = [
            f"cluster_formation.classic_config.nodes.{number} = {_node(one)}\n"
            for number, one in enumerate(self._hosts, start=1)
        ]
        text = _CONFIGURATION.format(address=host.address, port=PORT) + "".join(nodes)
        (folder / "rabbitmq.conf").write_text(text)
        (folder / ".erlang.cookie").write_text(_COOKIE)
        (folder / ".erlang.cookie").chmod(0o400)

    def _variables(self, host: Host, folder: Path) -> dict[str, str]:
        interface = host.address.replace(".", ",")
        return {
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": host.address,
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_NODENAME": _node(host),
            "RABBITMQ_DIST_PORT": str(_DISTRIBUTION_PORT),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            # One scheduler for each node: all three share the processors of one machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none"
            f" -kernel inet_dist_use_interface {{{interface}}}",
        }


def _node(host: Host) -> str:
    return f"rabbit@{host.address}"


def _url(host: Host) -> str:
    return f"amqp://guest:guest@{host.address}:{PORT}//"


def _knows_probe(host: Host, *, passive: bool) -> bool:
    """Return whether the node has the queue; without `passive` it is created."""
    options = {"read_timeout": 3, "write_timeout": 3}
    with (
        suppress(Exception),
        Connection(_url(host), connect_timeout=2, transport_options=options) as connection,
    ):
        connection.ensure_connection(max_retries=1, timeout=2)
        channel: Any = connection.channel()
        quorum = {"x-queue-type": "quorum"}
        channel.queue_declare(_PROBE, passive=passive, durable=True, auto_delete=False,
                              arguments=quorum)  # fmt: skip
        return True
    return False
