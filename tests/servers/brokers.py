"""RabbitMQ and Valkey, as the tests of Celery's brokers start them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from amqp.exceptions import NotFound
from kombu import Connection

from shop.up.errors import UpError
from shop.up.ports import HOST, free_port
from tests.chaos.broker import Valkey
from tests.chaos.rabbitmq import PROGRAMS, GivenRabbitMQ, RabbitMQ
from tests.processes import eventually
from tests.servers.server import Server, ServerMissing, listens

__all__ = ["PROGRAMS", "RabbitMQServer", "StompServer", "ValkeyServer"]

RABBITMQ_VARIABLE = "TEST_AMQP_URL"


class RabbitMQServer(Server):
    """The system's RabbitMQ in a node of its own, or the one of TEST_AMQP_URL. `url` is its URL."""

    name: ClassVar[str] = "RabbitMQ"

    def __init__(self, folder: Path) -> None:
        given = os.environ.get(RABBITMQ_VARIABLE, "")
        super().__init__(folder, given=RABBITMQ_VARIABLE if given else "")
        self.broker = GivenRabbitMQ(given, queues=()) if given else _own_rabbitmq(folder)
        self.command, self.variables = self.broker.command, self.broker.variables
        self.url = self.broker.settings["AMQP_URL"]
        if not given:  # the port mapper is a daemon, and outlives its node
            self.afterwards = ["epmd", "-port", self.variables["ERL_EPMD_PORT"], "-kill"]

    def answers(self) -> bool:
        return self.broker.answers()

    def kill(self) -> None:
        """SIGKILL the node after it has stored its queues and bindings, which a kill may lose."""
        self._require_own()
        assert isinstance(self.broker, RabbitMQ)
        self.broker.store_definitions()
        super().kill()

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl, and return what it prints."""
        command = [str(PROGRAMS / "rabbitmqctl"), *arguments]
        variables = {**os.environ, **self.variables}
        ended = subprocess.run(
            command, env=variables, capture_output=True, text=True, check=True, timeout=60
        )
        return ended.stdout

    @contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """Block all publishers by an alarm for the block."""
        self.control("set_vm_memory_high_watermark", "0.00000001")
        try:
            alarms = partial(self.control, "eval", "rabbit_alarm:get_alarms().")
            eventually(lambda: "memory" in alarms(), "the memory alarm")
            yield
        finally:
            self.control("set_vm_memory_high_watermark", "0.6")

    def without_leader(self, queue: str) -> AbstractContextManager[None]:
        """Stop the only member of a quorum queue for the block. The node must be its own."""
        assert isinstance(self.broker, RabbitMQ)
        return self.broker.without_leader(queue)


class StompServer(RabbitMQServer):
    """An own RabbitMQ with its plugin for STOMP. `port` is the plugin's port."""

    name: ClassVar[str] = "RabbitMQ with STOMP"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if self.given:
            raise ServerMissing(f"{self.given} names a RabbitMQ, whose plugins are not known.")
        self.port = free_port()
        with (folder / "rabbitmq.conf").open("a") as configuration:
            configuration.write(f"stomp.listeners.tcp.1 = {HOST}:{self.port}\n")
        (folder / "plugins").write_text("[rabbitmq_stomp].\n")

    def answers(self) -> bool:
        return super().answers() and listens(HOST, self.port)

    def has_queue(self, name: str) -> bool:
        """Return whether a queue exists."""
        with Connection(self.url, connect_timeout=2) as connection, suppress(NotFound):
            channel: Any = connection.channel()  # the stubs lack queue_declare
            return bool(channel.queue_declare(name, passive=True))
        return False


class ValkeyServer(Server):
    """Valkey from the wheel, with a password and an append-only file. `url` has the password."""

    name: ClassVar[str] = "Valkey"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        try:
            self.broker = Valkey(folder)
        except UpError as error:
            raise ServerMissing(str(error)) from None
        self.command, self.url = self.broker.command, self.broker.url

    def answers(self) -> bool:
        return self.broker.answers()


def _own_rabbitmq(folder: Path) -> RabbitMQ:
    try:
        return RabbitMQ(folder, queues=())
    except FileNotFoundError as error:
        raise ServerMissing(str(error)) from None
