"""Events reach a sink by deliveries, and are done by its acknowledgement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Event
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from outbox import BulkDelivery, DomainEvent, PermanentFailure, emit, operations, subscriptions
from outbox.contracts.cloudevents import parse
from outbox.models import Attempt, Delivery, Subscription
from outbox.sinks import configuration, deadline, publishing
from outbox.sinks.base import SinkMessage, SinkUnavailable
from outbox.sinks.configuration import configured, sink_of
from outbox.sinks.publishing import SinkBusy, register_sinks
from outbox.testing import Outbox
from tests.outbox.drive import (
    expire_leases_and_backoffs,
    run_message,
    run_messages,
    run_pass,
    states,
)
from tests.outbox.sinks.memory import MemorySink
from tests.outbox.sinks.sent import event_record
from tests.servers.fixtures import kafka
from tests.servers.kafka import KafkaServer

__all__ = ["kafka"]

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Ordered(DomainEvent, key="order_id"):
    order_id: UUID


MEMORY = "tests.outbox.sinks.test_publishing.ScriptedSink"
Result = Callable[[SinkMessage], Exception | None]


class ScriptedSink(MemorySink):
    """Acknowledges each message unless `result_of` returns an error for it."""

    result_of: Result | None = None
    error: Exception | None = None

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        self.calls: list[int] = []
        self.timeouts: list[float] = []

    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        self.calls.append(len(messages))
        self.timeouts.append(timeout)
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


def new_deliveries(number: int) -> list[BulkDelivery]:
    return [BulkDelivery(event_record(str(position))) for position in range(number)]


def call_handler(deliveries: Sequence[BulkDelivery]) -> None:
    handler = subscriptions.find("sinks.log")
    assert handler is not None
    handler.function(deliveries)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the time limits. `now` sets it."""
    made = SimpleNamespace(now=0.0)
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


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

    def test_that_a_mapper_cannot_map_fails_alone(
        self, with_sinks: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ):
        """Also with a sink of unknown limits, whose messages are measured for the call."""
        monkeypatch.setattr(ScriptedSink, "max_bytes", None)
        mapper = "tests.outbox.sinks.mappers.as_number_of_some"
        log = {"BACKEND": MEMORY, "EVENTS": ["shops.*"], "SENSITIVE": True, "FORMAT": mapper}
        with_sinks(log=log)
        emit_orders(3)

        run_messages(run_pass())

        assert sorted(states()) == ["dead", "done", "done"]
        assert "the header x-version is no text" in Attempt.objects.get(outcome="refused").message

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

    def test_is_the_last_one_if_the_system_was_unavailable_for_all(self, sink: ScriptedSink):
        sink.result_of = lambda one: SinkUnavailable("no route to host")
        deliveries = new_deliveries(25)

        with pytest.raises(SinkUnavailable, match=r'"log" was unavailable .* no route to host'):
            call_handler(deliveries)

        assert sink.calls == [10]
        assert [one.is_settled for one in deliveries] == [True] * 10 + [False] * 15

    def test_is_followed_by_another_if_the_system_accepted_one(self, sink: ScriptedSink):
        sink.result_of = lambda one: (
            None if one.key in ("0", "10") else SinkUnavailable("throttled")
        )
        deliveries = new_deliveries(25)

        call_handler(deliveries)

        assert sink.calls == [10, 10, 5]
        assert [one.event.key for one in deliveries if one.is_done] == ["0", "10"]
        assert all(one.is_settled for one in deliveries)

    def test_does_not_begin_after_half_of_the_lease(
        self, sink: ScriptedSink, clock: SimpleNamespace
    ):
        def answer_slowly(message: SinkMessage) -> None:
            clock.now += 1.6  # 16 s for a call of 10; the lease is 60 s

        sink.result_of = answer_slowly
        deliveries = new_deliveries(25)

        with pytest.raises(SinkUnavailable, match="half of the lease of 60 s has passed"):
            call_handler(deliveries)

        assert sink.calls == [10, 10]
        assert [one.is_done for one in deliveries] == [True] * 20 + [False] * 5

    def test_ends_before_the_lease(self, with_sinks: Callable[..., None], clock: SimpleNamespace):
        entry = {"BACKEND": MEMORY, "EVENTS": ["shops.*"], "SENSITIVE": True}
        with_sinks(log={**entry, "LEASE_SECONDS": 60, "TIMEOUT_SECONDS": 30})
        sink = sink_of(configured()["log"])
        assert isinstance(sink, ScriptedSink)

        def answer_slowly(message: SinkMessage) -> None:
            clock.now += 2

        sink.result_of = answer_slowly
        call_handler(new_deliveries(20))

        assert sink.timeouts == [30, 16]


@contextmanager
def busy(sink: ScriptedSink) -> Iterator[None]:
    """Let another thread publish until the end of the block."""
    is_called, may_return = Event(), Event()

    def answer_late(message: SinkMessage) -> None:
        is_called.set()
        may_return.wait(60)

    sink.result_of = answer_late
    with ThreadPoolExecutor() as pool:
        call = pool.submit(call_handler, new_deliveries(1))
        assert is_called.wait(60)
        try:
            yield
        finally:
            may_return.set()
            sink.result_of = None
        call.result()


class TestASinkThatIsBusy:
    @pytest.fixture
    def sink(self, with_sinks: Callable[..., None]) -> ScriptedSink:
        entry = {"BACKEND": MEMORY, "EVENTS": ["shops.*"], "SENSITIVE": True}
        with_sinks(log={**entry, "TIMEOUT_SECONDS": 0.05})
        found = sink_of(configured()["log"])
        assert isinstance(found, ScriptedSink)
        return found

    def test_is_not_awaited_longer_than_a_call(self, sink: ScriptedSink):
        is_called, may_return = Event(), Event()

        def answer_late(message: SinkMessage) -> None:
            is_called.set()
            may_return.wait(60)

        sink.result_of = answer_late
        first, second = new_deliveries(2)
        with ThreadPoolExecutor() as pool:
            call = pool.submit(call_handler, [first])
            assert is_called.wait(60)
            try:
                with pytest.raises(SinkBusy, match=r'"log" has been busy .* for 0.05 s'):
                    call_handler([second])
            finally:
                may_return.set()
            call.result()

        assert first.is_done
        assert not second.is_settled
        assert sink.calls == [1]

    def test_uses_up_no_attempt_and_opens_no_breaker(self, sink: ScriptedSink):
        emit_orders(1)

        with busy(sink):
            run_messages(run_pass())

        assert [(one.state, one.attempts) for one in Delivery.objects.all()] == [("pending", 0)]
        assert Attempt.objects.get().exception == "SinkBusy"
        row = Subscription.objects.get()
        assert (row.breaker_failures, row.breaker_opened_at) == (0, None)
        expire_leases_and_backoffs()
        run_messages(run_pass())
        assert states() == ["done"]

    def test_is_unavailable_if_a_call_has_not_returned_within_its_lease(
        self, sink: ScriptedSink, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to be waited for by all threads of the process, with no attempt used up."""
        emit_orders(1)
        monotonic = time.monotonic

        with busy(sink):
            later = "outbox.sinks.publishing.time.monotonic"
            monkeypatch.setattr(later, lambda: monotonic() + 3600)
            with pytest.raises(SinkUnavailable, match="has not returned within its lease"):
                call_handler(new_deliveries(1))
            monkeypatch.undo()

    def test_does_not_close_its_breaker_when_it_is_probed(self, sink: ScriptedSink):
        sink.error = SinkUnavailable("no route to host")
        emit_orders(5)
        run_messages(run_pass())  # one call
        expire_leases_and_backoffs()
        run_messages(run_pass())  # one call for each event
        expire_leases_and_backoffs()
        sink.error = None
        Subscription.objects.update(breaker_probe_at=timezone.now() - timedelta(seconds=1))

        with busy(sink):
            [probe] = run_pass()
            run_message(probe)

        row = Subscription.objects.get()
        assert (row.breaker_failures, row.breaker_opened_at is None) == (5, False)
        assert states() == ["pending"] * 5

    def test_is_free_after_a_call_that_failed(self, sink: ScriptedSink):
        sink.error = SinkUnavailable("no route to host")
        with pytest.raises(SinkUnavailable, match="no route to host"):
            call_handler(new_deliveries(1))
        sink.error = None

        deliveries = new_deliveries(1)
        call_handler(deliveries)

        assert deliveries[0].is_done


class TestAnUnavailableSystem:
    def test_opens_the_breaker_of_the_sink(self, sink: ScriptedSink):
        sink.error = SinkUnavailable("no route to host")
        emit_orders(6)
        run_messages(run_pass())  # one call
        assert Subscription.objects.get().breaker_failures == 1
        expire_leases_and_backoffs()
        run_messages(run_pass())  # one call for each event
        expire_leases_and_backoffs()

        assert run_pass() == []
        assert Subscription.objects.get().breaker_opened_at is not None
        assert states() == ["pending"] * 6

    def test_stays_closed_if_it_acknowledges_a_part_of_each_call(self, sink: ScriptedSink):
        sink.result_of = lambda one: (
            SinkUnavailable("busy") if one.event.payload["number"] else None
        )
        for _ in range(6):
            emit_orders(3)
            [message] = run_pass()
            run_message(message)
            Delivery.objects.filter(state="pending").update(due_at=timezone.now() + timedelta(1))

        row = Subscription.objects.get()
        assert (row.breaker_failures, row.breaker_opened_at) == (0, None)
        assert states().count("done") == 6


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


class TestEmit:
    @pytest.mark.parametrize("ordered", [True, False])
    def test_executes_the_same_statements_with_and_without_sinks(
        self, with_sinks: Callable[..., None], ordered: bool
    ):
        """With an ordered sink, the one INSERT also locks the event's key on PostgreSQL."""
        without = self.statements()
        sink = {"BACKEND": MEMORY, "EVENTS": ["tests.*"], "ORDERED": ordered}
        with_sinks(first=sink, second=sink)

        with_two = self.statements()

        assert without == with_two == ["INSERT INTO"]

    @staticmethod
    def statements() -> list[str]:
        """Return the first two words of each statement of an emit."""
        with transaction.atomic(), CaptureQueriesContext(connection) as queries:
            emit(Ordered(order_id=uuid4()))
        return [" ".join(one["sql"].split()[:2]) for one in queries.captured_queries]


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
