"""The broker of a stack: Valkey from the wheel, or the system's RabbitMQ (TEST_BROKER=rabbitmq)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import redis
from amqp.exceptions import NotFound
from kombu import Connection

from shop.up import broker as brokers
from shop.up.ports import HOST, free_port

#: The start script itself; the one on the PATH changes users.
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class Broker(Protocol):
    """Started by `command` within `variables`; `settings` is what the shop's settings read."""

    @property
    def command(self) -> Sequence[str]: ...
    @property
    def variables(self) -> Mapping[str, str]: ...
    @property
    def settings(self) -> Mapping[str, str]: ...

    def answers(self) -> bool: ...
    def wipe(self) -> None: ...
    def forget(self) -> None: ...
    def queue_length(self, queue: str) -> int: ...


def is_rabbitmq_wanted() -> bool:
    return os.environ.get("TEST_BROKER") == "rabbitmq"


class Valkey:
    def __init__(self, folder: Path) -> None:
        chosen = brokers.choose({}, folder)
        assert chosen.program is not None
        self._folder = folder
        self.command = list(chosen.program.command)
        self.variables: Mapping[str, str] = {}
        self.settings = {"REDIS_URL": chosen.variables["REDIS_URL"], "AMQP_URL": ""}
        self.url = chosen.variables["REDIS_URL"]

    def answers(self) -> bool:
        with (
            contextlib.suppress(redis.RedisError),
            redis.Redis.from_url(self.url, socket_timeout=1) as client,
        ):
            return bool(client.ping())
        return False

    def wipe(self) -> None:
        """FLUSHALL: every message is gone, and the broker's own bookkeeping too."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def forget(self) -> None:
        """Take away what a stopped broker has on disk, so that it starts with nothing."""
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)

    def queue_length(self, queue: str) -> int:
        with redis.Redis.from_url(self.url) as client:
            return int(client.llen(queue))


class RabbitMQ:
    """A node of its own: loopback only, its own folder, port mapper and cookie."""

    def __init__(self, folder: Path, *, queues: Sequence[str]) -> None:
        if not RABBITMQ.exists():
            raise FileNotFoundError(f"TEST_BROKER=rabbitmq needs {RABBITMQ}: apt-get install it.")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._queues, self._port = folder, queues, free_port()
        configuration = folder / "rabbitmq.conf"
        configuration.write_text(f"listeners.tcp.1 = {HOST}:{self._port}\n")
        self.command = [str(RABBITMQ)]
        self.variables = self._variables(configuration)
        self.settings = {"AMQP_URL": f"amqp://guest:guest@{HOST}:{self._port}//"}

    def _variables(self, configuration: Path) -> dict[str, str]:
        return {
            "HOME": str(self._folder),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_NODENAME": f"chaos{self._port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def answers(self) -> bool:
        with contextlib.suppress(Exception), self._connection() as connection:
            connection.ensure_connection(max_retries=1, timeout=1)
            return True
        return False

    def wipe(self) -> None:
        """Take every message that waits in a queue."""
        with self._connection() as connection:
            for queue in self._queues:
                with contextlib.suppress(NotFound):
                    connection.channel().queue_purge(queue)

    def forget(self) -> None:
        """Take away what a stopped broker has on disk, so that it starts with nothing."""
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    def queue_length(self, queue: str) -> int:
        with self._connection() as connection, contextlib.suppress(NotFound):
            return int(connection.channel().queue_declare(queue, passive=True).message_count)
        return 0

    def stop_port_mapper(self) -> None:
        """It was started as a daemon, and outlives its node."""
        command = ["epmd", "-port", self.variables["ERL_EPMD_PORT"], "-kill"]
        subprocess.run(command, capture_output=True, check=False)

    def _connection(self) -> Connection:
        return Connection(self.settings["AMQP_URL"], connect_timeout=2)
