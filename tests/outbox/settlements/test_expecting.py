"""A sink with CONSUMERS expects a settlement of each event that it has published."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from pydantic import Field
from pytest_django import Settings

from outbox import operations
from outbox.contracts.cloudevents import parse
from outbox.models import Delivery, Event, Received, Settlement
from outbox.settlements.events import SETTLED_TYPE
from outbox.sources import ExternalEvent
from outbox.sources.reading_again import subscribe_reader
from outbox.sources.storing import store
from outbox.testing import Outbox
from tests.outbox.drive import run_messages, run_pass, states
from tests.outbox.settlements.world import (
    EVENT,
    configure_sinks,
    emit_order,
    let_deadlines_pass,
    publish,
    report,
    report_message,
    settlements,
    source,
)
from tests.outbox.sinks.memory import MemorySink

pytestmark = pytest.mark.django_db(transaction=True)


class TestAPublishedEvent:
    def test_is_expected_to_be_settled_by_each_consumer(self, own_registry, settings: Settings):
        configure_sinks(settings, log={"EVENTS": [EVENT], "CONSUMERS": ["billing", "stock"]})
        event = emit_order()

        publish()

        assert settlements() == [("billing", "open"), ("stock", "open")]
        for row in Settlement.objects.select_related("delivery"):
            assert row.event == event
            assert row.delivery.settled_at is not None
            assert row.due_at - row.delivery.settled_at >= timedelta(seconds=299)

    def test_of_a_sink_without_consumers_is_not(self, own_registry, settings: Settings):
        configure_sinks(settings, log={"EVENTS": [EVENT]})
        emit_order()

        publish()

        assert states() == ["done"]
        assert settlements() == []

    def test_that_is_not_acknowledged_is_not_expected_yet(self, sink: MemorySink):
        emit_order()

        run_pass()

        assert settlements() == []


class TestAReport:
    def test_settles_the_event(self, sink: MemorySink):
        event = emit_order()
        publish()

        counts = report(event)

        assert counts["settlements"] == 1
        assert settlements() == [("billing", "settled")]

    def test_with_the_number_of_a_replay_settles_the_event(self, sink: MemorySink):
        event = emit_order()
        publish()

        report(f"{event}.2")

        assert settlements() == [("billing", "settled")]

    def test_is_no_event_and_its_id_is_kept(self, sink: MemorySink):
        event = emit_order()
        publish()
        before = Event.objects.count()

        first, second = report(event, id="r-1"), report(event, id="r-1")

        assert Event.objects.count() == before
        assert Received.objects.count() == 1
        assert (first["settlements"], second["duplicates"]) == (1, 1)

    def test_before_the_receipt_is_committed_is_kept(self, sink: MemorySink):
        event = emit_order()
        messages = run_pass()

        report(event)
        run_messages(messages)

        assert states() == ["done"]
        assert settlements() == [("billing", "settled")]

    @pytest.mark.parametrize("event", [uuid4(), "order 7", ""])
    def test_of_an_unknown_event_is_counted_and_ignored(self, sink: MemorySink, event: object):
        counts = report(event)

        assert (counts["ignored"], settlements()) == (1, [])
        assert not Event.objects.exists()

    def test_of_an_unexpected_consumer_is_counted_and_ignored(self, sink: MemorySink):
        event = emit_order()
        publish()

        counts = report(event, "stock")

        assert counts["ignored"] == 1
        assert settlements() == [("billing", "open")]

    @pytest.mark.parametrize("data", [{}, {"event": 7, "consumer": "billing"}])
    def test_without_its_fields_is_a_dead_letter(self, sink: MemorySink, data: dict[str, object]):
        counts = store(source(), [report_message("", data=data)])

        assert counts["unreadable"] == 1

    def test_stays_after_a_replay_of_the_delivery(self, sink: MemorySink):
        event = emit_order()
        publish()
        report(event)

        operations.replay(operations.Choice(handler="sinks.log"), by="ann", reason="lost there")
        publish()

        assert len(sink.messages) == 2
        assert settlements() == [("billing", "settled")]


class TestAMissedDeadline:
    def test_publishes_the_event_again_with_another_id(self, sink: MemorySink):
        event = emit_order()
        publish()

        let_deadlines_pass()
        publish()

        assert [one.id for one in sink.messages] == [str(event), f"{event}.1"]
        assert states() == ["done"]
        assert Settlement.objects.get().replays == 1

    def test_marks_the_message_as_a_replay(self, sink: MemorySink):
        event = emit_order()
        publish()
        let_deadlines_pass()
        publish()

        first, second = (parse(one.headers, one.body) for one in sink.messages)
        assert {first.id, second.id} == {str(event)}
        assert "replay" not in first.extensions
        assert second.extensions["replay"] == "1"

    def test_after_the_last_replay_makes_a_dead_letter(self, sink: MemorySink):
        emit_order()
        publish()

        for _ in range(4):
            let_deadlines_pass()
            publish()

        assert len(sink.messages) == 4
        assert settlements() == [("billing", "missing")]
        row = Delivery.objects.get()
        assert row.state == "dead"
        assert row.note == "billing has not settled it within 5 min, after 3 replays"

    def test_without_replays_makes_a_dead_letter_at_once(self, own_registry, settings: Settings):
        configure_sinks(
            settings,
            log={
                "EVENTS": [EVENT],
                "CONSUMERS": ["billing"],
                "SETTLE_REPLAYS": 0,
                "SETTLE_SECONDS": 90,
            },
        )
        emit_order()
        publish()

        let_deadlines_pass(91)
        publish()

        assert Delivery.objects.get().note == (
            "billing has not settled it within 1 min 30 s, after 0 replays"
        )


class TestADeadLetter:
    @pytest.fixture
    def event(self, sink: MemorySink):
        """An event that billing has not settled after all replays."""
        found = emit_order()
        publish()
        for _ in range(4):
            let_deadlines_pass()
            publish()
        assert states() == ["dead"]
        return found

    def test_is_closed_by_a_late_report(self, event):
        report(event)

        assert states() == ["done"]
        assert settlements() == [("billing", "settled")]

    def test_starts_again_with_a_retry(self, event, sink: MemorySink):
        operations.retry(operations.Choice(handler="sinks.log"), by="ann", reason="deployed")
        publish()

        assert states() == ["done"]
        assert settlements() == [("billing", "open")]
        assert len({one.id for one in sink.messages}) == 5
        for _ in range(4):
            let_deadlines_pass()
            publish()
        assert states() == ["dead"]

    def test_that_is_discarded_expects_nothing_more(self, event):
        operations.discard(operations.Choice(handler="sinks.log"), by="ann", reason="not needed")

        assert states() == ["discarded"]
        assert settlements() == [("billing", "withdrawn")]


class TestAReportThatIsDeclared:
    def test_is_an_event_too(self, sink: MemorySink):
        class EventSettled(ExternalEvent, source="billing", type=SETTLED_TYPE, key="settled"):
            """Another system has settled an event."""

            settled: str = Field(alias="event")
            consumer: str

        event = emit_order()
        publish()

        counts = report(event)

        assert (counts["stored"], counts["settlements"]) == (1, 1)
        assert settlements() == [("billing", "settled")]
        assert Event.objects.get(name="billing.EventSettled").key == str(event)


class TestAReportThatWasStoredAsUnreadable:
    def test_is_recorded_when_it_is_corrected(self, sink: MemorySink):
        subscribe_reader()
        event = emit_order()
        publish()
        store(source(), [report_message("", data={"event": str(event)})])
        publish()
        dead = Delivery.objects.get(state="dead")
        body = dead.event.payload["body"].replace("}}", ', "consumer": "billing"}}')

        payload = {**dead.event.payload, "body": body}
        operations.correct(dead.pk, payload, by="ann", reason="the consumer was missing")
        publish()

        assert settlements() == [("billing", "settled")]


class TestTheTestKit:
    def test_makes_deadlines_due(self, sink: MemorySink):
        outbox = Outbox()
        outbox.given(EVENT, key="7")
        outbox.deliver_all()

        outbox.let_pass(timedelta(seconds=200))
        outbox.deliver_all()
        assert len(sink.messages) == 1

        outbox.let_pass(timedelta(seconds=101))
        outbox.deliver_all()
        assert len(sink.messages) == 2
