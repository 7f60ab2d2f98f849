"""Kafka at the edges."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

from confluent_kafka import Producer

from shop.up.ports import HOST
from tests.chaos.edges.arrivals import Arrival, in_binary
from tests.chaos.edges.modes import Mode
from tests.chaos.edges.proxy import Loop, Proxy
from tests.chaos.edges.system import CLOUDEVENT, MEMBER, Sequences, System
from tests.chaos.edges.wires import KafkaWire
from tests.servers.kafka import KafkaServer
from tests.servers.refusing_kafka import refusing_broker


class Kafka(System):
    """The emulator noida-db, or the Kafka of KAFKA_BOOTSTRAP_SERVERS.

    A given Kafka is neither stopped nor frozen, and has no proxy: its members are killed.
    """

    name = "kafka"
    keeps_data = False
    limited = ("kafka",)

    def __init__(self, folder: Path, loop: Loop, cleanup: ExitStack) -> None:
        self._kafka = self.server = cleanup.enter_context(KafkaServer(folder))
        self._published = self._kafka.create_topic(partitions=3)
        self._received = self._kafka.create_topic(partitions=3)
        self._group = f"harbour-{uuid4().hex}"
        options = self._options(loop, cleanup)
        backend = "outbox.sinks.kafka.KafkaSink"
        self.sinks = {"kafka": {"BACKEND": backend, "TOPIC": self._published, "OPTIONS": options}}
        source: dict[str, Any] = {
            "BACKEND": "outbox.sources.kafka.KafkaSource",
            "TOPICS": [self._received],
            "GROUP": self._group,
            "OPTIONS": {**options, "session.timeout.ms": 6000},
        }
        self.sources = {"from_kafka": source}
        if self._kafka.is_emulator:
            self._know_members(source)
        self._producer: Any = None

    def _options(self, loop: Loop, cleanup: ExitStack) -> dict[str, str]:
        """Return the options of a client: with a proxy before the emulator."""
        if not self._kafka.is_emulator:
            self.stand = _Undistorted()
            return {"bootstrap.servers": self._kafka.bootstrap_servers}
        refusing = cleanup.enter_context(refusing_broker())
        port, refusing_port = (
            int(address.rpartition(":")[2]) for address in (self._kafka.bootstrap_servers, refusing)
        )
        proxy = self.stand = Proxy(loop, port, KafkaWire, refusing_port=refusing_port)
        return {
            "bootstrap.servers": f"{HOST}:{proxy.port}",
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "harbour",
            "sasl.password": "secret",
        }

    def _know_members(self, source: dict[str, Any]) -> None:
        """Let a killed member return under its name: the emulator never evicts a member.

        A member that does not return has to leave, so it connects to the server itself.
        """
        address = {"bootstrap.servers": self._kafka.bootstrap_servers}
        self.of_guests = {"from_kafka": {**source, "OPTIONS": {**source["OPTIONS"], **address}}}
        source["OPTIONS"] = {**source["OPTIONS"], "group.instance.id": MEMBER}

    def send(self, body: bytes, *, key: str, id: str) -> None:
        if self._producer is None:
            address = {"bootstrap.servers": self._kafka.bootstrap_servers}
            limits = {"message.timeout.ms": 30_000, "enable.idempotence": True, "log_level": 0}
            self._producer = Producer({**address, **limits})
        errors: list[Any] = []
        self._producer.produce(
            self._received,
            body,
            key=key,
            headers={"content-type": CLOUDEVENT},
            on_delivery=lambda error, _message: errors.append(error),
        )
        if self._producer.flush(40) or errors != [None]:
            self._producer = None
            raise OSError(f"Kafka did not accept {id}: {errors}")

    def serves_receivers(self) -> bool:
        return self._kafka.serves_group(self._group)

    def arrivals(self) -> dict[str, Sequences]:
        found: dict[int, list[Arrival]] = {}
        for one in self._kafka.received(self._published):
            arrival = in_binary(self._kafka.headers(one), one.value() or b"", prefix="ce_")
            found.setdefault(one.partition() or 0, []).append(arrival)
        return {"kafka": list(found.values())}


class _Undistorted:
    """A system without a proxy."""

    def put(self, mode: Mode) -> None:
        """Do nothing."""
