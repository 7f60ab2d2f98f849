"""The contract of a sink for SQS queues and SNS topics, standard and FIFO, against moto.

A killed moto is empty again, so an outage is a frozen server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pytest

from outbox.sinks.aws import SnsSink, SqsSink
from outbox.sinks.base import Sink
from outbox.testing import SinkContract, StoredMessage
from tests.outbox.sinks import queues
from tests.servers.aws import AwsServer

pytestmark = pytest.mark.once

Received = Callable[[str], Sequence[StoredMessage]]


class AwsContract(SinkContract):
    """The fixtures that all four have in common."""

    backend: ClassVar[type[Sink]]

    @pytest.fixture
    def sink(self, aws: AwsServer) -> Sink:
        sink = self.backend("audit", aws.options)
        sink.ordered = False
        return sink

    @pytest.fixture
    def outage(self, aws: AwsServer) -> Callable[[], AbstractContextManager[object]]:
        return aws.frozen


class TestAStandardQueue(AwsContract):
    backend = SqsSink
    keeps_keys = False

    @pytest.fixture
    def topic(self, aws: AwsServer) -> str:
        return queues.new_queue(aws).name

    @pytest.fixture
    def received(self, aws: AwsServer) -> Received:
        url = aws.client("sqs").get_queue_url
        return lambda topic: drained(aws, url(QueueName=topic)["QueueUrl"])


class TestAFifoQueue(AwsContract):
    backend = SqsSink
    keeps_ids = True
    discards_known_ids = True

    @pytest.fixture
    def topic(self, aws: AwsServer) -> str:
        return queues.new_queue(aws, fifo=True).url

    @pytest.fixture
    def missing_topic(self, topic: str) -> str:
        return topic.replace("q-", "r-")

    @pytest.fixture
    def received(self, aws: AwsServer) -> Received:
        return lambda topic: drained(aws, topic)


class TestAStandardTopic(AwsContract):
    """With a queue that has raw delivery."""

    backend = SnsSink
    keeps_keys = False
    raw = "true"

    @pytest.fixture
    def topic(self, aws: AwsServer) -> str:
        return queues.new_topic(aws)

    @pytest.fixture
    def received(self, aws: AwsServer, topic: str) -> Received:
        queue = queues.new_queue(aws)
        queues.subscribe(aws, topic, queue, RawMessageDelivery=self.raw)
        return lambda topic: drained(aws, queue.url, as_received=self.as_received)

    def as_received(self, message: Any) -> StoredMessage:
        return queues.as_received(message)


class TestAStandardTopicWithEnvelope(TestAStandardTopic):
    """With a queue that has no raw delivery, which is SNS's default."""

    raw = "false"

    def as_received(self, message: Any) -> StoredMessage:
        return queues.as_notified(message)


class TestAFifoTopic(AwsContract):
    backend = SnsSink
    keeps_ids = True
    discards_known_ids = True

    @pytest.fixture
    def topic(self, aws: AwsServer) -> str:
        return queues.new_topic(aws, fifo=True)

    @pytest.fixture
    def missing_topic(self, topic: str) -> str:
        return topic.replace(":t-", ":u-")

    @pytest.fixture
    def received(self, aws: AwsServer, topic: str) -> Received:
        queue = queues.new_queue(aws, fifo=True)
        queues.subscribe(aws, topic, queue, RawMessageDelivery="true")
        return lambda topic: drained(aws, queue.url)


def drained(
    aws: AwsServer,
    url: str,
    *,
    as_received: Callable[[Any], StoredMessage] = queues.as_received,
) -> list[StoredMessage]:
    return [as_received(one) for one in queues.drained(aws, url)]
