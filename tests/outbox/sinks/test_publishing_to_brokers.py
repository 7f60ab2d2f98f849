"""Events reach brokers as CloudEvents, from their emission to the acknowledgement."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from uuid import uuid4

import pytest
from pytest_django import Settings

from outbox import operations
from outbox.contracts.cloudevents import CloudEvent, parse
from outbox.models import Attempt
from outbox.sinks.publishing import register_sinks
from outbox.testing import Outbox
from tests.outbox.drive import expire_leases_and_backoffs, run_messages, run_pass, states
from tests.outbox.sinks import queues, streams
from tests.outbox.sinks.publication import emit, publish_all, stored_ids, with_sink
from tests.servers.aws import AwsServer
from tests.servers.kafka import KafkaServer
from tests.servers.nats import NatsServer

__all__ = ["with_sink"]

pytestmark = [
    pytest.mark.once,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]

#: A key that no subject and no message group may have as it is.
KEY = "order 7.A*"


emit_orders = partial(emit, key=KEY)


class TestKafka:
    @pytest.fixture
    def topic(self, kafka: KafkaServer, with_sink: Callable[..., None]) -> str:
        topic = kafka.create_topic(partitions=3)
        with_sink(
            BACKEND="outbox.sinks.kafka.KafkaSink",
            TOPIC=topic,
            OPTIONS={"bootstrap.servers": kafka.bootstrap_servers},
        )
        return topic

    def events(self, kafka: KafkaServer, topic: str) -> list[CloudEvent]:
        return [
            parse(kafka.headers(one), one.value() or b"", prefix="ce_")
            for one in kafka.received(topic)
        ]

    def test_stores_the_events_of_a_key_in_order(self, kafka, topic):
        emit_orders(5)

        publish_all()

        assert states() == ["done"] * 5
        events = self.events(kafka, topic)
        assert [one.id for one in events] == stored_ids()
        assert {(one.type, one.source) for one in events} == {("shops.Ordered.v1", "/tests")}
        assert {one.key() for one in kafka.received(topic)} == {KEY.encode()}
        assert len({one.partition() for one in kafka.received(topic)}) == 1

    def test_stores_a_replay_under_the_same_id(self, kafka, topic):
        emit_orders(1)
        publish_all()

        operations.replay(operations.Choice(handler="sinks.audit"), by="ann", reason="lost there")
        publish_all()

        [id] = stored_ids()
        assert [one.id for one in self.events(kafka, topic)] == [id, id]

    @pytest.fixture
    def short_calls(self, topic: str, settings: Settings) -> None:
        sink = settings.OUTBOX["SINKS"]["audit"]
        settings.OUTBOX = {
            **settings.OUTBOX,
            "SINKS": {"audit": {**sink, "LEASE_SECONDS": 6}},  # a third is for the call
        }
        register_sinks()

    def test_leaves_events_owed_until_it_acknowledges_them_after_its_restart(
        self, kafka, short_calls
    ):
        emit_orders(1)
        publish_all()
        emit_orders(2)

        with kafka.down():
            run_messages(run_pass())
        assert states() == ["done", "pending", "blocked"]
        # Before the outage, a call may have taken longer than these short ones may.
        [attempt] = Attempt.objects.filter(delivery__state="pending")
        assert attempt.exception == "SinkUnavailable"

        expire_leases_and_backoffs()
        publish_all()
        # A delivery is done by an acknowledgement only. Whether the broker has stored the message
        # is not asserted: the emulator may lose acknowledged messages (tests/servers/kafka.py).
        assert states() == ["done"] * 3

    def test_leaves_events_owed_while_it_is_frozen(self, kafka, topic, short_calls):
        emit_orders(2)

        with kafka.frozen():
            run_messages(run_pass())
        assert states() == ["pending", "blocked"]
        assert Attempt.objects.get().exception == "SinkUnavailable"

        expire_leases_and_backoffs()
        publish_all()
        assert states() == ["done"] * 2
        # The frozen broker may have stored the first one, too.
        assert list(dict.fromkeys(one.id for one in self.events(kafka, topic))) == stored_ids()


class TestNats:
    @pytest.fixture
    def stream(self, nats: NatsServer, with_sink: Callable[..., None]) -> str:
        name = f"s{uuid4().hex}"
        streams.create(nats.url, name, [f"{name}.>"])
        with_sink(
            BACKEND="outbox.sinks.nats.NatsSink",
            TOPIC=f"{name}.{{app}}.{{event}}.{{key}}",
            OPTIONS={"servers": nats.url},
        )
        return name

    def events(self, nats: NatsServer, stream: str) -> list[CloudEvent]:
        return [parse(one.headers, one.data) for one in streams.stored(nats.url, stream)]

    def test_stores_the_events_of_a_key_in_order(self, nats, stream):
        emit_orders(5)

        publish_all()

        assert states() == ["done"] * 5
        events = self.events(nats, stream)
        assert [one.id for one in events] == stored_ids()
        assert {(one.type, one.source) for one in events} == {("shops.Ordered.v1", "/tests")}
        [subject] = {one.subject for one in streams.stored(nats.url, stream)}
        assert subject == f"{stream}.shops.Ordered.order%207%2EA%2A"

    def test_stores_a_replay(self, nats, stream):
        emit_orders(1)
        publish_all()

        operations.replay(operations.Choice(handler="sinks.audit"), by="ann", reason="lost there")
        publish_all()

        [id] = stored_ids()
        assert streams.ids(nats.url, stream) == [id, f"{id}.1"]

    def test_leaves_events_owed_while_it_is_down(self, nats, stream):
        emit_orders(2)

        with nats.down():
            run_messages(run_pass())
        assert states() == ["pending", "blocked"]
        assert Attempt.objects.get().exception == "SinkUnavailable"

        expire_leases_and_backoffs()
        publish_all()
        assert states() == ["done"] * 2
        assert [one.id for one in self.events(nats, stream)] == stored_ids()


class TestAFifoQueue:
    def test_receives_the_events_of_a_key_in_order(self, aws: AwsServer, with_sink):
        queue = queues.new_queue(aws, fifo=True)
        with_sink(BACKEND="outbox.sinks.aws.SqsSink", TOPIC=queue.name, OPTIONS=aws.options)
        emit_orders(5)

        publish_all()

        assert states() == ["done"] * 5
        found = queues.drained(aws, queue.url)
        received = [queues.as_received(one) for one in found]
        assert [one.id for one in received] == stored_ids()
        assert [parse(one.headers, one.body).id for one in received] == stored_ids()

    def test_receives_a_replay(self, aws: AwsServer, with_sink):
        queue = queues.new_queue(aws, fifo=True)
        with_sink(BACKEND="outbox.sinks.aws.SqsSink", TOPIC=queue.url, OPTIONS=aws.options)
        emit_orders(1)
        publish_all()

        operations.replay(operations.Choice(handler="sinks.audit"), by="ann", reason="lost there")
        publish_all()

        found = [queues.as_received(one).id for one in queues.drained(aws, queue.url)]
        [id] = stored_ids()
        assert found == [id, f"{id}.1"]


class TestATopic:
    def test_carries_the_attributes_for_filter_policies(self, aws: AwsServer, with_sink):
        topic, queue = queues.new_topic(aws), queues.new_queue(aws)
        queues.subscribe(
            aws,
            topic,
            queue,
            RawMessageDelivery="true",
            FilterPolicy='{"type": ["shops.Ordered.v1"]}',
        )
        with_sink(BACKEND="outbox.sinks.aws.SnsSink", TOPIC=topic, OPTIONS=aws.options)
        emit_orders(1)
        Outbox().given("shops.Closed", key="8")

        publish_all()

        assert states() == ["done"] * 2
        [found] = [queues.as_received(one) for one in queues.drained(aws, queue.url)]
        event = parse(found.headers, found.body)
        assert found.headers == {
            "id": event.id,
            "type": "shops.Ordered.v1",
            "source": "/tests",
            "partitionkey": KEY,
            "content-type": "application/cloudevents+json",
        }
