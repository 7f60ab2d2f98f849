"""The NATS source against a server with JetStream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import nats as client
import pytest
from django.core.exceptions import ImproperlyConfigured

from outbox.sources import SourceUnavailable
from outbox.sources.base import Source
from outbox.sources.nats import NatsSource
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


@pytest.mark.once
class TestAChangeOfTopics:
    """The consumers of the old subjects have the position of the group in the stream."""

    @pytest.fixture
    def opened(self, given: Mapping[str, Any]) -> Any:
        """Return a context with a source of these subjects of the group."""

        @contextmanager
        def opened(topics: Sequence[str], group: str = "shop") -> Iterator[Source]:
            options = given["OPTIONS"]
            made = NatsSource("billing", topics=topics, group=group, options=options)
            try:
                yield made
            finally:
                made.close()

        return opened

    @pytest.fixture
    def sent(self, nats: NatsServer, subject: str) -> Any:
        """Publish a body to a subject of the stream; return the subject."""

        def sent(kind: str) -> str:
            topic = subject.replace("*", kind)
            asyncio.run(publish(nats.url, [(topic, one) for one in bodies(1)]))
            return topic

        return sent

    def acknowledge(self, source: Source, number: int) -> list[str]:
        """Receive so many messages and acknowledge them; return their subjects."""
        found = received(source, number)
        source.acknowledge(found)
        return sorted(one.topic for one in found)

    def test_to_a_further_subject_receives_the_new_one_from_its_start(self, opened, sent):
        refund, invoice = sent("refunds"), sent("invoices")
        with opened([invoice]) as source:
            self.acknowledge(source, 1)

        with opened([invoice, refund]) as source:
            assert self.acknowledge(source, 1) == [refund]
            assert source.receive(10, timeout=0.5) == []

    def test_to_another_subject_receives_it_from_its_start(self, opened, sent):
        refund, invoice = sent("refunds"), sent("invoices")
        with opened([invoice]) as source:
            self.acknowledge(source, 1)

        with opened([refund]) as source:
            assert self.acknowledge(source, 1) == [refund]

    def test_to_one_subject_less_reads_nothing_again(self, opened, sent):
        refund, invoice = sent("refunds"), sent("invoices")
        with opened([invoice, refund]) as source:
            self.acknowledge(source, 1)
            self.acknowledge(source, 1)

        with opened([invoice]) as source:
            assert source.receive(10, timeout=0.5) == []

    def test_to_parts_of_its_subject_reads_nothing_again(self, opened, subject, sent):
        refund, invoice = sent("refunds"), sent("invoices")
        with opened([subject]) as source:
            self.acknowledge(source, 2)
        sent("refunds")

        with opened([invoice, refund]) as source:
            assert source.lag() == 1
            assert self.acknowledge(source, 1) == [refund]
            assert source.receive(10, timeout=0.5) == []

    @pytest.mark.parametrize("kinds", [["invoices"], ["invoices", "refunds"]])
    def test_to_a_wider_subject_is_refused(self, opened, subject, sent, kinds):
        with opened([sent(one) for one in kinds]) as source:
            for _ in kinds:
                self.acknowledge(source, 1)

        with opened([subject]) as source:
            with pytest.raises(SourceUnavailable, match=", but TOPICS has "):
                received(source, 1)
            [problem] = source.check(timeout=10)

        assert "set another GROUP" in problem

    def test_continues_with_a_consumer_of_another_group(self, opened, subject, sent, nats):
        """It begins where the consumer of the old group ends."""
        invoice = sent("invoices")
        with opened([invoice]) as source:
            self.acknowledge(source, 1)
        refund = sent("refunds")
        stream = subject.partition(".")[0]

        asyncio.run(create_after(nats.url, stream, "shop", new="shop-2", subject=subject))

        with opened([subject], group="shop-2") as source:
            assert self.acknowledge(source, 1) == [refund]
            assert source.receive(10, timeout=0.5) == []

    def test_is_independent_of_a_group_whose_name_begins_with_its_own(self, opened, subject, sent):
        invoice = sent("invoices")
        with opened([invoice], group="shop-eu") as source:
            self.acknowledge(source, 1)

        with opened([subject]) as source:
            assert source.check(timeout=10) == []
            assert self.acknowledge(source, 1) == [invoice]

    def test_continues_with_the_furthest_of_its_consumers(self, opened, subject, sent, nats):
        """An older release created one of each name."""
        invoice, stream = sent("invoices"), subject.partition(".")[0]
        named = f"shop-{invoice.replace('.', '_')}"
        with opened([invoice]) as source:
            self.acknowledge(source, 1)
        asyncio.run(create_after(nats.url, stream, "shop", new=named, subject=invoice))
        sent("invoices")
        with opened([invoice, subject.replace("*", "refunds")]) as source:
            self.acknowledge(source, 1)

        with opened([invoice]) as source:
            assert source.receive(10, timeout=0.5) == []


async def create_after(url: str, stream: str, old: str, *, new: str, subject: str) -> None:
    """Create a consumer that begins after the messages that another one has acknowledged."""
    connection = await client.connect(url)
    jetstream = connection.jetstream()
    floor = (await jetstream.consumer_info(stream, old)).ack_floor
    assert floor is not None
    config = client.js.api.ConsumerConfig(
        durable_name=new,
        filter_subject=subject,
        deliver_policy=client.js.api.DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=floor.stream_seq + 1,
    )
    await jetstream.add_consumer(stream, config)
    await connection.close()


class TestNamesOfConsumers:
    @pytest.mark.parametrize("group", ["shop.billing", "the shop", "shop*", "shop>", "a/b", "a\\b"])
    def test_refuse_a_group_that_nats_does_not_allow(self, group):
        with pytest.raises(ImproperlyConfigured, match="GROUP"):
            NatsSource("billing", topics=["a"], group=group, options={})

    @pytest.mark.parametrize("topics", [["a.b", "a_b"], ["a.>", "b", "a.*"]])
    def test_refuse_subjects_of_one_name(self, topics):
        with pytest.raises(ImproperlyConfigured, match="TOPICS"):
            NatsSource("billing", topics=topics, group="shop", options={})
