"""The broker under test: Valkey; with TEST_BROKER=rabbitmq the system's RabbitMQ; with =sqs moto's.

With TEST_BROKER=none there is no broker: processes of `outbox work` relay and deliver.

TEST_AMQP_URL gives the URL of a RabbitMQ that runs already, which `make test-rabbitmq` takes from
AMQP_URL. Tests that stop the broker are skipped then.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chaos.broker import Broker, Valkey
from tests.chaos.rabbitmq import GivenRabbitMQ, RabbitMQ
from tests.chaos.sqs import Sqs
from tests.chaos.without_broker import NoBroker
from tests.servers.server import ServerMissing

NAMES = ("valkey", "rabbitmq", "sqs", "none")
#: Those of a chaos run, which repeats and shuffles messages: SQS lets no third party read them.
OF_CHAOS = (*NAMES[:2], "none")


def name_under_test() -> str:
    """Return one of `NAMES`."""
    return os.environ.get("TEST_BROKER", NAMES[0])


def is_given() -> bool:
    """Return whether the broker under test is external."""
    return name_under_test() == "rabbitmq" and bool(os.environ.get("TEST_AMQP_URL"))


def broker_under_test(folder: Path, *, queues: Sequence[str]) -> Broker:
    """Return a broker, not started unless it is external. `queues` are the ones to purge.

    Skips the test if a part of SQS is not installed.
    """
    if is_given():
        return GivenRabbitMQ(os.environ["TEST_AMQP_URL"], queues=queues)
    if name_under_test() == "rabbitmq":
        return RabbitMQ(folder, queues=queues)
    if name_under_test() == "sqs":
        try:
            return Sqs(folder, queues=queues)
        except ServerMissing as reason:
            pytest.skip(str(reason))
    if name_under_test() == "none":
        return NoBroker()
    return Valkey(folder)
