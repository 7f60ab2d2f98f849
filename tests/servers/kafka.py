"""Kafka: the emulator noida-db, or a real one that KAFKA_BOOTSTRAP_SERVERS names.

noida-db (PyPI) speaks Kafka's protocol, but it is an emulator. It acknowledges a message before the
message is on disk, so a SIGKILL loses acknowledged messages. After that restart it refuses
producers that it knew before with OUT_OF_ORDER_SEQUENCE_NUMBER. So a test with it asserts that a
message is owed until it is acknowledged, and asserts durability only if `is_emulator` is false.
The first member of a group waits 0.3 s for others. A second one that joins as that ends makes the
emulator answer no request of the group any more. So a test that starts two members of a group waits
for `serves_group` in between.
"""

from __future__ import annotations

import logging
import os
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupState,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from shop.up.ports import HOST, free_port
from tests.servers.server import Server, ServerMissing, listens

VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"

_quiet = logging.getLogger("tests.servers.kafka")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


class KafkaServer(Server):
    """A broker. `bootstrap_servers` is its address."""

    name: ClassVar[str] = "Kafka"

    def __init__(self, folder: Path) -> None:
        self.bootstrap_servers = os.environ.get(VARIABLE, "")
        super().__init__(folder, given=VARIABLE if self.bootstrap_servers else "")
        if not self.given:
            port = free_port()
            self.bootstrap_servers = f"{HOST}:{port}"
            options = [
                "--host",
                HOST,
                "--kafka-port",
                str(port),
                "--data-dir",
                str(folder / "data"),
            ]
            self.command = [_program(), "start", "--only", "kafka", *options]

    @property
    def is_emulator(self) -> bool:
        """Whether acknowledged messages may be lost by a SIGKILL."""
        return not self.given

    def answers(self) -> bool:
        if not self.given and not listens(HOST, int(self.bootstrap_servers.rpartition(":")[2])):
            return False
        try:
            self._admin().list_topics(timeout=5)
        except KafkaException:
            return False
        return True

    def create_topic(self, *, partitions: int = 1, **configuration: str) -> str:
        """Create a topic with a new name; return the name."""
        name = f"test.{uuid4().hex}"
        copies = 1 if self.is_emulator else -1
        topic = NewTopic(name, partitions, copies, config=configuration)
        admin = self._admin()
        for done in admin.create_topics([topic]).values():
            done.result(30)
        return name

    def serves_group(self, group: str) -> bool:
        """Return whether the members of a consumer group have their partitions."""
        admin = self._admin()
        described = admin.describe_consumer_groups([group], request_timeout=30)
        return bool(described[group].result().state == ConsumerGroupState.STABLE)

    def received(self, topic: str) -> list[Message]:
        """Return all messages of a topic, partition by partition in the order of their offsets."""
        options = {"bootstrap.servers": self.bootstrap_servers, "group.id": uuid4().hex}
        consumer = Consumer({**options, "enable.auto.commit": False}, logger=_quiet)
        try:
            partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
            return [one for number in sorted(partitions) for one in _read(consumer, topic, number)]
        finally:
            consumer.close()

    def headers(self, message: Message) -> dict[str, str]:
        """Return the headers of a received message as text."""
        headers: Any = message.headers() or ()  # pairs, when it was received
        return {name: value.decode() for name, value in headers}

    def _admin(self) -> AdminClient:
        # The caller keeps a reference while futures run.
        return AdminClient({"bootstrap.servers": self.bootstrap_servers}, logger=_quiet)


def _read(consumer: Consumer, topic: str, number: int) -> list[Message]:
    partition = TopicPartition(topic, number, OFFSET_BEGINNING)
    _first, end = consumer.get_watermark_offsets(partition, timeout=30)
    consumer.assign([partition])
    found: list[Message] = []
    while not found or (found[-1].offset() or 0) < end - 1:
        if end == 0:
            return []
        message = consumer.poll(30)
        assert message is not None, f"{topic} has {end} messages, and only {len(found)} came."
        assert message.error() is None, message.error()
        found.append(message)
    return found


def _program() -> str:
    missing = 'noida-db is missing: install the wheel "noida-db", or set KAFKA_BOOTSTRAP_SERVERS.'
    if find_spec("noida_db") is None:
        raise ServerMissing(missing)
    path = Path(str(files("noida_db"))) / "noida-db"  # its script is a parent that dies alone
    if not os.access(path, os.X_OK):
        raise ServerMissing(missing)
    return str(path)
