"""Code, timelines and commands show which systems have settled an event. Code can wait for it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from django.db import connections, transaction
from django.utils import translation

from outbox import timeline_of
from outbox.models import Delivery, Event, Settlement
from outbox.monitor.diagnosis import why
from outbox.monitor.sentences import sentences_of
from outbox.settlements import NotExpected, is_settled, settlements_of, wait_until_settled
from tests.outbox.settlements.world import (
    emit_order,
    let_deadlines_pass,
    publish,
    report,
)
from tests.outbox.sinks.memory import MemorySink

pytestmark = pytest.mark.django_db(transaction=True)


def texts(event: UUID) -> list[str]:
    return [one.text for one in settlements_of(event)]


class TestTheTextOfASettlement:
    def test_has_the_time_that_is_left(self, sink: MemorySink):
        event = emit_order()
        publish()
        let_deadlines_pass(259)

        assert re.fullmatch(r"billing: settlement due in \d+ s", texts(event)[0])

    def test_has_the_time_since_the_emission(self, sink: MemorySink):
        event = emit_order()
        publish()
        report(event)
        row = Event.objects.get(id=event)
        Settlement.objects.update(settled_at=row.emitted_at + timedelta(seconds=1.2))

        assert texts(event) == ["billing: done after 1.2 s"]
        with translation.override("ja"):
            assert texts(event)[0].endswith("1.2 秒 で完了")

    def test_counts_the_replays(self, sink: MemorySink):
        event = emit_order()
        publish()
        for _ in range(4):
            let_deadlines_pass()
            publish()

        assert texts(event) == ["billing: settlement missing, after 3 replays"]

    def test_is_in_the_timeline(self, sink: MemorySink):
        event = emit_order(key="order-7")
        publish()
        report(event)

        found = timeline_of(key="order-7")

        [settlement] = found[0].deliveries[0].settlements
        assert (settlement.consumer, settlement.state) == ("billing", "settled")
        [sentence] = sentences_of(found, span=str)
        assert re.fullmatch(r"billing: done after \d+\.\d s", sentence.settlements[0])


class TestTheReasonOfADelivery:
    def test_names_the_settlement_that_it_waits_for(self, sink: MemorySink):
        emit_order()
        publish()

        text = why(Delivery.objects.get())
        assert re.search(r"billing: settlement due in (5 min|4 min \d+ s)\.", text)

    def test_names_consumer_deadline_and_next_step(self, sink: MemorySink):
        emit_order()
        publish()
        for _ in range(4):
            let_deadlines_pass()
            publish()

        row = Delivery.objects.get()
        text = why(row)
        assert "billing has not settled it within 5 min, after 3 replays." in text
        assert f"`manage.py outbox retry {row.pk}`" in text


class TestAWait:
    def test_ends_when_the_consumer_reports(self, sink: MemorySink):
        event = emit_order()
        publish()
        began = threading.Event()
        results: list[bool] = []

        def wait() -> None:
            try:
                began.set()
                results.append(wait_until_settled(event, "billing", seconds=60))
            finally:
                connections.close_all()

        thread = threading.Thread(target=wait)
        thread.start()
        began.wait()
        assert not is_settled(event, "billing")
        report(event)
        thread.join()

        assert results == [True]

    def test_ends_without_a_report_when_the_time_is_over(self, sink: MemorySink):
        event = emit_order()
        publish()

        assert wait_until_settled(event, "billing", seconds=0.05) is False

    def test_needs_all_consumers(self, sink: MemorySink):
        event = emit_order()
        publish()
        report(event)

        assert is_settled(event, "billing")
        assert not is_settled(event, "billing", "stock")

    @pytest.mark.parametrize("ask", [is_settled, partial(wait_until_settled, seconds=0)])
    def test_needs_a_consumer(self, sink: MemorySink, ask: Callable[[UUID], bool]):
        """A list of names from settings may be empty. The event is not settled then."""
        with pytest.raises(TypeError, match="at least one consumer"):
            ask(emit_order())

    def test_for_a_consumer_that_no_sink_names_is_refused(self, sink: MemorySink):
        emit_order()

        with pytest.raises(NotExpected, match="The expected ones: billing"):
            wait_until_settled(uuid4(), "biling", seconds=60)

    def test_within_a_transaction_is_refused(self, sink: MemorySink):
        emit_order()

        with pytest.raises(RuntimeError, match="wait after it"), transaction.atomic():
            wait_until_settled(uuid4(), "billing", seconds=60)
