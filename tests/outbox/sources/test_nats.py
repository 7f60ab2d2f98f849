"""The NATS source against a server with JetStream."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import nats as client
import pytest

from tests.outbox.sources.contract import Send, SourceContract
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
        "OPTIONS": {"servers": nats.url, "ack_wait": 2},
    }


@pytest.fixture
def send(nats: NatsServer, subject: str) -> Send:
    async def publish(messages: list[bytes]) -> None:
        connection = await client.connect(nats.url)
        for one in messages:
            await connection.jetstream().publish(subject.replace("*", "invoices"), one)
        await connection.close()

    return lambda messages: asyncio.run(publish(messages))


class TestTheNatsSource(SourceContract):
    pass
