"""Events reach RabbitMQ, Redis streams and HTTP, from emission to acknowledgement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import kombu
import pytest
import redis
from django.utils import timezone
from standardwebhooks import Webhook

from outbox import operations
from outbox.contracts.cloudevents import CloudEvent, parse
from outbox.models import Attempt, Delivery
from outbox.sinks.signatures import new_secret
from tests.outbox.drive import expire_leases_and_backoffs, run_messages, run_pass, states
from tests.outbox.sinks.publication import emit, publish_all, stored_ids, with_sink
from tests.outbox.sinks.receiver import Receiver, answers, receiving
from tests.servers.brokers import RabbitMQServer, ValkeyServer

__all__ = ["with_sink"]

pytestmark = [
    pytest.mark.once,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]

#: A key with characters that no header of HTTP may have, and that a URL must not have.
KEY = "Zürich 7/%41?"


emit_orders = partial(emit, key=KEY)


def replay() -> None:
    operations.replay(operations.Choice(handler="sinks.audit"), by="ann", reason="lost there")


class TestRabbitMQ:
    @pytest.fixture
    def queue(self, rabbitmq: RabbitMQServer, with_sink: Callable[..., None]) -> str:
        name = f"q{uuid4().hex}"
        with kombu.Connection(rabbitmq.url) as connection:
            exchange = kombu.Exchange(f"e-{name}", "topic")
            kombu.Queue(name, exchange, "shops.*", durable=True)(connection.channel()).declare()
        with_sink(
            BACKEND="outbox.sinks.amqp.AmqpSink",
            OPTIONS={"url": rabbitmq.url, "exchange": f"e-{name}"},
        )
        return name

    def messages(self, rabbitmq: RabbitMQServer, queue: str) -> list[tuple[str, CloudEvent]]:
        with kombu.Connection(rabbitmq.url) as connection:
            channel: Any = connection.channel()
            channel.auto_decode = False
            found = iter(lambda: channel.basic_get(queue, no_ack=True), None)
            return [
                (
                    one.message_id,
                    parse({**one.headers, "content-type": one.content_type}, one.body),
                )
                for one in found
            ]

    def test_stores_the_events_of_a_key_in_order(self, rabbitmq, queue):
        emit_orders(5)

        publish_all()

        assert states() == ["done"] * 5
        found = self.messages(rabbitmq, queue)
        assert [event.id for _, event in found] == [id for id, _ in found] == stored_ids()
        assert {event.type for _, event in found} == {"shops.Ordered.v1"}
        assert {event.subject for _, event in found} == {KEY}

    def test_stores_a_replay(self, rabbitmq, queue):
        emit_orders(1)
        publish_all()

        replay()
        publish_all()

        [id] = stored_ids()
        found = self.messages(rabbitmq, queue)
        assert [(known, event.id) for known, event in found] == [(id, id), (f"{id}.1", id)]

    @pytest.mark.processes
    def test_leaves_events_owed_while_it_is_down(self, rabbitmq, queue):
        emit_orders(2)

        with rabbitmq.down():
            run_messages(run_pass())
        assert states() == ["pending", "blocked"]
        assert Attempt.objects.get().exception == "SinkUnavailable"

        expire_leases_and_backoffs()
        publish_all()
        assert states() == ["done"] * 2
        assert [event.id for _, event in self.messages(rabbitmq, queue)] == stored_ids()


class TestARedisStream:
    @pytest.fixture
    def topic(self, valkey: ValkeyServer, with_sink: Callable[..., None]) -> str:
        name = f"s{uuid4().hex}"
        with_sink(
            BACKEND="outbox.sinks.redis_streams.RedisStreamSink",
            TOPIC=name,
            OPTIONS={"url": valkey.url},
        )
        return name

    def entries(self, valkey: ValkeyServer, topic: str) -> list[dict[str, str]]:
        with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
            return [fields for _, fields in client.xrange(topic)]

    def test_stores_the_events_of_a_key_in_order(self, valkey, topic):
        emit_orders(5)

        publish_all()

        assert states() == ["done"] * 5
        found = self.entries(valkey, topic)
        assert [one["id"] for one in found] == stored_ids()
        assert {(one["type"], one["source"], one["subject"]) for one in found} == {
            ("shops.Ordered.v1", "/tests", KEY)
        }
        assert [one["data"] for one in found] == [f'{{"number":{n}}}' for n in range(5)]
        assert {one["datacontenttype"] for one in found} == {"application/json"}

    @pytest.mark.processes
    def test_leaves_events_owed_while_the_server_is_down(self, valkey, topic):
        emit_orders(2)

        with valkey.down():
            run_messages(run_pass())
        assert states() == ["pending", "blocked"]
        assert Attempt.objects.get().exception == "SinkUnavailable"

        expire_leases_and_backoffs()
        publish_all()
        assert states() == ["done"] * 2
        assert [one["id"] for one in self.entries(valkey, topic)] == stored_ids()


class TestHttp:
    SECRET = new_secret()

    @pytest.fixture
    def receiver(self, with_sink: Callable[..., None]) -> Iterator[Receiver]:
        with receiving() as receiver:
            with_sink(
                BACKEND="outbox.sinks.http.HttpSink",
                TOPIC=f"{receiver.url}/{{key}}",
                OPTIONS={"secrets": [self.SECRET]},
            )
            yield receiver

    def test_receives_the_events_of_a_key_in_order(self, receiver):
        emit_orders(5)

        publish_all()

        assert states() == ["done"] * 5
        found = [parse(one.headers, one.body, percent_encoded=True) for one in receiver.requests]
        assert [one.id for one in found] == stored_ids()
        assert {one.subject for one in found} == {KEY}
        assert {one.path for one in receiver.requests} == {"/events/Z%C3%BCrich%207%2F%2541%3F"}
        for number, one in enumerate(receiver.requests):
            assert Webhook(self.SECRET).verify(one.body, one.headers) == {"number": number}

    def test_receives_an_event_again_under_its_id_after_a_lost_answer(self, receiver):
        receiver.behaviour = receiver.drop
        emit_orders(1)
        run_messages(run_pass())
        assert states() == ["pending"]

        receiver.behaviour = answers(204)
        expire_leases_and_backoffs()
        publish_all()

        assert states() == ["done"]
        assert [one.headers["webhook-id"] for one in receiver.requests] == stored_ids() * 2

    def test_is_asked_again_after_the_time_that_it_asked_for(self, receiver):
        receiver.behaviour = answers(429, Retry_After="7200")
        emit_orders(1)

        run_messages(run_pass())

        due_at = Delivery.objects.get().due_at
        assert due_at is not None
        assert due_at > timezone.now() + timedelta(hours=1)

    def test_that_rejects_an_event_makes_it_dead_at_once(self, receiver):
        receiver.behaviour = answers(422)
        emit_orders(1)

        run_messages(run_pass())

        assert states() == ["dead"]
        assert "HTTP 422" in Attempt.objects.get().message
