"""The NATS source against a server with JetStream."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import nats as client
import pytest

from tests.outbox.sources.contract import Send, SourceContract, bodies, received
from tests.processes import eventually
from tests.servers.nats import NatsServer


@pytest.fixture
def subject(nats: NatsServer) -> str:
    name = f"s{uuid4().hex}"

    async def create() -> None:
        connection = await client.connect(nats.url)
        await connection.jetstream().add_stream(name=name, subjects=[f"{name}.*"])
        await connection.close()

    asyncio.run(create())
    return f"{name}.*"


@pytest.fixture
def given(nats: NatsServer, subject: str) -> dict[str, Any]:
    return {
        "BACKEND": "outbox.sources.nats.NatsSource",
        "TOPICS": [subject],
        "GROUP": "shop",
        "OPTIONS": {"servers": nats.url},
    }


@pytest.fixture
def send(nats: NatsServer, subject: str) -> Send:
    topic = subject.replace("*", "invoices")
    return lambda messages: asyncio.run(publish(nats.url, [(topic, one) for one in messages]))


async def publish(url: str, messages: list[tuple[str, bytes]]) -> None:
    """Publish bodies, each to its subject."""
    connection = await client.connect(url)
    for topic, one in messages:
        await connection.jetstream().publish(topic, one)
    await connection.close()


class TestTheNatsSource(SourceContract):
    @pytest.fixture
    def given_to_killed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {**given, "OPTIONS": {**given["OPTIONS"], "ack_wait": 2}}

    @pytest.mark.once
    def test_receives_from_each_subject_in_turn(self, nats, given, subject, settings):
        """A subject that always has messages does not hold up the others."""
        full, other = subject.replace("*", "full"), subject.replace("*", "other")
        source = self.new({**given, "TOPICS": [full, other]}, settings)
        asyncio.run(publish(nats.url, [(full, one) for one in bodies(6)]))
        asyncio.run(publish(nats.url, [(other, one) for one in bodies(1)]))

        try:
            topics = [{one.topic for one in source.receive(2, timeout=10)} for _ in range(3)]
        finally:
            source.close()

        assert topics == [{full}, {other}, {full}]

    @pytest.mark.once
    def test_holds_messages_longer_than_the_server_waits(self, given_to_killed, settings, send):
        """A message that nobody holds is delivered again meanwhile."""
        first, second = (self.new(given_to_killed, settings) for _ in range(2))
        send(bodies(1))
        held = received(first, 1)
        send(bodies(1, first=1))
        seen: list[str] = []

        def is_back() -> bool:
            first.hold(held)
            seen.extend(one.position for one in second.receive(10, timeout=0.1))
            return len(seen) >= 3

        try:
            eventually(is_back, "two further deliveries")
            assert held[0].position not in seen
            first.acknowledge(held)
        finally:
            first.close()
            second.close()
