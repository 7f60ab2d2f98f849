"""Events reach a sink by deliveries, and are done by its acknowledgement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from outbox import PermanentFailure, operations, subscriptions
from outbox.contracts.cloudevents import parse
from outbox.models import Attempt, Delivery, Subscription
from outbox.sinks import configuration, publishing
from outbox.sinks.base import SinkMessage, SinkUnavailable
from outbox.sinks.configuration import configured, sink_of
from outbox.sinks.publishing import register_sinks
from outbox.testing import Outbox
from tests.outbox.drive import (
    expire_leases_and_backoffs,
    run_message,
    run_messages,
    run_pass,
    states,
)
from tests.outbox.sinks.memory import MemorySink
from tests.servers.fixtures import kafka
from tests.servers.kafka import KafkaServer

__all__ = ["kafka"]

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]

MEMORY = "tests.outbox.sinks.test_publishing.ScriptedSink"
Result = Callable[[SinkMessage], Exception | None]


class ScriptedSink(MemorySink):
    """Acknowledges each message unless `result_of` returns an error for it."""

    result_of: Result | None = None
    error: Exception | None = None

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        self.calls: list[int] = []

    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        self.calls.append(len(messages))
        if self.error is not None:
            raise self.error
        results = [self.result_of(one) if self.result_of else None for one in messages]
        stored = [one for one, error in zip(messages, results, strict=True) if error is None]
        super().publish(stored, timeout=timeout)
        return results


@pytest.fixture
def with_sinks(settings: Settings) -> Iterator[Callable[..., None]]:
    def use(**sinks: dict[str, Any]) -> None:
        settings.OUTBOX = {**settings.OUTBOX, "SINKS": sinks, "SOURCE": "/tests"}
        register_sinks()

    yield use
    configuration.close_sinks()


@pytest.fixture
def sink(with_sinks: Callable[..., None]) -> ScriptedSink:
    """The sink "log" of all events of the app "shops"."""
    with_sinks(log={"BACKEND": MEMORY, "EVENTS": ["shops.*"], "SENSITIVE": True})
    found = sink_of(configured()["log"])
    assert isinstance(found, ScriptedSink)
    return found


def emit_orders(number: int, *, key: str = "") -> None:
    outbox = Outbox()
    for position in range(number):
        outbox.given("shops.Ordered", key=key or str(uuid4()), number=position)


def numbers_of(messages: Sequence[SinkMessage]) -> list[int]:
    return [one.event.payload["number"] for one in messages]


class TestAnEvent:
    def test_is_published_once_and_done(self, sink: ScriptedSink):
        emit_orders(3)

        run_messages(run_pass())

        assert states() == ["done"] * 3
        assert sorted(numbers_of(sink.messages)) == [0, 1, 2]
        assert parse(sink.messages[0].headers, sink.messages[0].body).source == "/tests"

    def test_of_another_app_is_not_published(self, sink: ScriptedSink):
        Outbox().given("parcels.Sent", parcel_id=uuid4())

        assert run_pass() == []
        assert not Delivery.objects.exists()

    def test_is_done_only_by_its_own_acknowledgement(self, sink: ScriptedSink):
        sink.result_of = lambda one: (
            SinkUnavailable("throttled") if one.event.payload["number"] == 1 else None
        )
        emit_orders(3)

        run_messages(run_pass())

        assert states() == ["done", "pending", "done"]
        assert Attempt.objects.get().exception == "SinkUnavailable"

    def test_that_is_too_large_is_dead_before_the_first_attempt_to_send(self, sink: ScriptedSink):
        Outbox().given("shops.Ordered", key="1", number=1, note="x" * 3000)

        run_messages(run_pass())

        assert states() == ["dead"]
        assert sink.messages == []

    def test_that_the_system_refuses_for_good_is_dead(self, sink: ScriptedSink):
        sink.result_of = lambda one: PermanentFailure("malformed")
        emit_orders(1)

        run_messages(run_pass())

        assert states() == ["dead"]

    def test_has_another_id_after_a_replay(self, sink: ScriptedSink):
        emit_orders(1)
        run_messages(run_pass())

        operations.replay(operations.Choice(handler="sinks.log"), by="ann", reason="lost there")
        run_messages(run_pass())

        first, second = (one.id for one in sink.messages)
        assert second == f"{first}.1"

    def test_without_its_sensitive_fields_known_is_dead(self, with_sinks: Callable[..., None]):
        """No class declares it, so nothing says which fields are sensitive."""
        with_sinks(log={"BACKEND": MEMORY, "EVENTS": ["shops.*"]})
        emit_orders(1)

        run_messages(run_pass())

        assert states() == ["dead"]


class TestACall:
    def test_is_limited_in_bytes(self, sink: ScriptedSink, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(publishing, "_MOST_BYTES", 2000)
        emit_orders(6)

        run_messages(run_pass())

        assert states() == ["done"] * 6
        assert len(sink.calls) > 1
        assert sum(sink.calls) == 6


class TestAnUnavailableSystem:
    def test_opens_the_breaker_of_the_sink(self, sink: ScriptedSink):
        sink.error = SinkUnavailable("no route to host")
        emit_orders(6)
        run_messages(run_pass())
        expire_leases_and_backoffs()

        assert run_pass() == []
        assert Subscription.objects.get().breaker_opened_at is not None
        assert states() == ["pending"] * 6


class TestOrder:
    def test_of_a_key_is_kept(self, sink: ScriptedSink):
        emit_orders(3, key="7")

        while messages := run_pass():
            run_messages(messages)

        assert numbers_of(sink.messages) == [0, 1, 2]

    def test_lets_no_later_event_of_a_key_overtake(self, sink: ScriptedSink):
        sink.result_of = lambda one: SinkUnavailable("busy")
        emit_orders(2, key="7")

        [message] = run_pass()
        run_message(message)

        assert len(message.pairs) == 1
        assert states() == ["pending", "blocked"]

    def test_is_not_kept_if_the_sink_does_not_ask_for_it(self, with_sinks: Callable[..., None]):
        with_sinks(
            log={"BACKEND": MEMORY, "EVENTS": ["shops.*"], "SENSITIVE": True, "ORDERED": False}
        )
        emit_orders(2, key="7")

        [message] = run_pass()

        assert len(message.pairs) == 2


class TestTheHandler:
    def test_has_one_subscription_for_all_events(self, with_sinks: Callable[..., None]):
        with_sinks(log={"BACKEND": MEMORY, "EVENTS": ["shops.*", "parcels.Sent"]})

        Outbox()

        row = Subscription.objects.get()
        assert (row.handler, row.event) == ("sinks.log", "shops.*, parcels.Sent")
        assert (row.queue, row.ordered) == ("outbox.sinks", True)

    def test_of_a_removed_sink_is_unknown_and_parks_its_deliveries(
        self, sink: ScriptedSink, with_sinks: Callable[..., None]
    ):
        emit_orders(1)
        with_sinks()

        Outbox()
        run_pass()

        assert not Subscription.objects.get().known
        assert states() == ["parked"]

    def test_is_registered_once(self, sink: ScriptedSink):
        register_sinks()

        names = [one.name for one in subscriptions.registry]
        assert names == ["sinks.log"]

    def test_of_invalid_settings_is_refused_at_the_start(self, with_sinks: Callable[..., None]):
        with pytest.raises(ImproperlyConfigured, match="EVENTS"):
            with_sinks(log={"BACKEND": MEMORY, "EVENTS": []})


class TestKafka:
    def test_gets_the_events_of_its_sink(self, with_sinks: Callable[..., None], kafka: KafkaServer):
        topic = kafka.create_topic(partitions=2)
        with_sinks(
            analytics={
                "BACKEND": "outbox.sinks.kafka.KafkaSink",
                "EVENTS": ["shops.*"],
                "TOPIC": topic,
                "SENSITIVE": True,
                "OPTIONS": {"bootstrap.servers": kafka.bootstrap_servers},
            }
        )
        emit_orders(20)

        run_messages(run_pass())

        assert states() == ["done"] * 20
        found = kafka.received(topic)
        events = [parse(kafka.headers(one), one.value() or b"", prefix="ce_") for one in found]
        stored = {str(one) for one in Delivery.objects.values_list("event__id", flat=True)}
        assert {one.id for one in events} == stored
        assert {one.type for one in events} == {"shops.Ordered.v1"}
