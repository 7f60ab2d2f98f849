"""The servers of these tests start, stop, come back at their address, and never outlive us."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kombu import Connection, Exchange, Producer, Queue

from tests.processes import eventually, is_alive
from tests.servers.fixtures import aws, kafka, nats, rabbitmq, valkey
from tests.servers.nats import NatsServer
from tests.servers.server import Server, ServerMissing, program

__all__ = ["aws", "kafka", "nats", "rabbitmq", "valkey"]

ROOT = Path(__file__).resolve().parents[2]

STARTS_ONE = """
import pathlib, sys
from tests.servers.nats import NatsServer

server = NatsServer(pathlib.Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", ["kafka", "aws", "nats", "rabbitmq", "valkey"])
class TestAServer:
    @pytest.fixture
    def server(self, name: str, request: pytest.FixtureRequest) -> Server:
        found: Server = request.getfixturevalue(name)
        return found

    def test_answers(self, server):
        eventually(server.answers, f"{server.name} answers")

    def test_is_down_while_it_is_killed_and_returns_to_its_address(self, server):
        with server.down():
            assert not server.answers()
        eventually(server.answers, f"{server.name} answers")

    def test_does_not_answer_while_it_is_frozen_and_keeps_its_process(self, server):
        with server.frozen():
            assert server.is_running
            assert not server.answers()
        eventually(server.answers, f"{server.name} answers")


class TestAKilledRabbitMQ:
    def test_keeps_a_queue_that_was_bound_just_before(self, rabbitmq):
        """The node acknowledges a binding before it is on disk, so some kills would lose it."""
        exchange = Exchange("parcels", "topic")
        with Connection(rabbitmq.url) as connection:
            Queue("parcels", exchange, "sent", durable=True)(connection.channel()).declare()

        with rabbitmq.down():
            pass

        with Connection(rabbitmq.url) as connection:
            Producer(connection, exchange, "sent", auto_declare=False).publish("7")
        eventually(lambda: rabbitmq.broker.queue_length("parcels") == 1, "a message is routed")


class TestAServerWhoseOwnerIsKilled:
    def test_ends(self, tmp_path):
        _require_nats(tmp_path)
        with subprocess.Popen(
            [sys.executable, "-c", STARTS_ONE, str(tmp_path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as owner:
            assert owner.stdout
            pid = int(owner.stdout.readline())
            assert is_alive(pid)
            owner.send_signal(signal.SIGKILL)

        eventually(lambda: not is_alive(pid), "the server ends")


class TestAMissingProgram:
    def test_is_named_with_its_package(self):
        with pytest.raises(ServerMissing, match='install the wheel "some-wheel"'):
            program("no-such-program", "some-wheel")


def _require_nats(folder: Path) -> None:
    try:
        NatsServer(folder)
    except ServerMissing as error:
        pytest.skip(str(error))
