"""Queues and topics of a moto server, as tests create and read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from tests.servers.aws import AwsServer

if TYPE_CHECKING:
    from outbox.testing import StoredMessage


class Queue(NamedTuple):
    name: str
    url: str
    arn: str


def new_queue(aws: AwsServer, *, fifo: bool = False, **attributes: str) -> Queue:
    """Create a queue, and return its name, URL and ARN."""
    sqs = aws.client("sqs")
    name = f"q-{uuid4().hex}" + ".fifo" * fifo
    if fifo:
        attributes["FifoQueue"] = "true"
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return Queue(name, url, answer["Attributes"]["QueueArn"])


def new_topic(aws: AwsServer, *, fifo: bool = False, **attributes: str) -> str:
    """Create a topic, and return its ARN."""
    if fifo:
        attributes["FifoTopic"] = "true"
    name = f"t-{uuid4().hex}" + ".fifo" * fifo
    arn: str = aws.client("sns").create_topic(Name=name, Attributes=attributes)["TopicArn"]
    return arn


def subscribe(aws: AwsServer, topic: str, queue: Queue, **attributes: str) -> None:
    """Subscribe a queue to a topic, for example with RawMessageDelivery="true"."""
    aws.client("sns").subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=queue.arn, Attributes=attributes
    )


def drained(aws: AwsServer, url: str) -> list[dict[str, Any]]:
    """Receive and delete all messages of a queue, in the order in which it returns them."""
    sqs = aws.client("sqs")
    found: list[dict[str, Any]] = []
    while messages := sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        AttributeNames=["All"],
        WaitTimeSeconds=0,
    ).get("Messages"):
        found += messages
        entries = [
            {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]}
            for number, one in enumerate(messages)
        ]
        sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    return found


def as_received(message: Mapping[str, Any]) -> StoredMessage:
    """Return a message that a sink sent to a queue, directly or by a topic with raw delivery."""
    from outbox.testing import StoredMessage  # needs Django's apps, which a chaos run has not

    attributes = message.get("MessageAttributes", {})
    system = message.get("Attributes", {})
    return StoredMessage(
        key=system.get("MessageGroupId", ""),
        headers={name: one["StringValue"] for name, one in attributes.items()},
        body=message["Body"].encode(),
        id=system.get("MessageDeduplicationId", ""),
    )


def as_notified(message: Mapping[str, Any]) -> StoredMessage:
    """Return a message that a topic without raw delivery has wrapped in a JSON envelope."""
    from outbox.testing import StoredMessage

    envelope = json.loads(message["Body"])
    attributes = envelope.get("MessageAttributes", {})
    return StoredMessage(
        key="",
        headers={name: one["Value"] for name, one in attributes.items()},
        body=envelope["Message"].encode(),
        id="",
    )
