"""One server of each kind for a session. A server that is not installed skips its tests.

In a conftest.py: `from tests.servers.fixtures import kafka`. All tests of the session use the same
server, so each creates a topic or queue of its own. A test that stops the server uses
`with kafka.down():` or `with kafka.frozen():`, which bring it back if the test fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.servers.server import Server, ServerMissing

SomeServer = TypeVar("SomeServer", bound=Server)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A `tests.servers.kafka.KafkaServer`."""
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed.")
    from tests.servers.kafka import KafkaServer

    yield from _running(KafkaServer, tmp_path_factory.mktemp("kafka"))


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A `tests.servers.aws.AwsServer`: SNS and SQS."""
    pytest.importorskip("boto3", reason="boto3 is not installed.")
    from tests.servers.aws import AwsServer

    yield from _running(AwsServer, tmp_path_factory.mktemp("aws"))


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A `tests.servers.nats.NatsServer`, with JetStream."""
    pytest.importorskip("nats", reason="nats-py is not installed.")
    from tests.servers.nats import NatsServer

    yield from _running(NatsServer, tmp_path_factory.mktemp("nats"))


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A `tests.servers.brokers.RabbitMQServer`."""
    from tests.servers.brokers import RabbitMQServer

    yield from _running(RabbitMQServer, tmp_path_factory.mktemp("rabbitmq"))


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A `tests.servers.brokers.ValkeyServer`."""
    from tests.servers.brokers import ValkeyServer

    yield from _running(ValkeyServer, tmp_path_factory.mktemp("valkey"))


def _running(start: Callable[[Path], SomeServer], folder: Path) -> Iterator[SomeServer]:
    try:
        server = start(folder)
    except ServerMissing as error:
        pytest.skip(str(error))
    with server:
        yield server
