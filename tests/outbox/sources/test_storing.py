"""Received messages become events: once each, together, with their cause."""

from __future__ import annotations

import logging
import threading
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.db import DataError, OperationalError, connections, transaction

from outbox import emission, subscribe
from outbox.context import current_cause
from outbox.deliveries import failpoints
from outbox.models import Event, Received, SourceState
from outbox.sources.state import flush
from outbox.sources.storing import store
from outbox.testing import Outbox

from .messages import ORDER, configure, declare_invoice_paid, message, new_order


@pytest.fixture
def billing(own_registry, settings):
    declare_invoice_paid()
    return configure(settings)


def names() -> list[str]:
    return list(Event.objects.order_by("seq").values_list("name", flat=True))


class TestAMessage:
    def test_becomes_an_event_named_after_its_source(self, billing):
        store(billing, [message()])

        event = Event.objects.get()
        assert (event.name, event.key) == ("billing.InvoicePaid", str(ORDER))
        assert event.payload == {"order_id": str(ORDER), "amount": "12.50", "payer": ""}
        assert event.actor == "source:billing"

    def test_reaches_an_ordinary_handler(self, billing):
        calls: list[tuple[UUID, Decimal]] = []

        @subscribe("billing.InvoicePaid", name="tests.settle_invoice")
        def settle_invoice(order_id: UUID, amount: Decimal) -> None:
            calls.append((order_id, amount))

        outbox = Outbox()

        store(billing, [message()])
        outbox.deliver_all()

        assert calls == [(ORDER, Decimal("12.50"))]

    def test_may_have_fields_that_the_event_does_not_declare(self, billing):
        store(billing, [message(data={"order_id": str(ORDER), "amount": "1", "vat": {"de": 7}})])

        assert "vat" not in Event.objects.get().payload

    def test_brings_correlation_and_cause(self, billing):
        correlation, cause = uuid4(), uuid4()
        store(
            billing,
            [message(correlationid=str(correlation), causationid=str(cause))],
        )

        event = Event.objects.get()
        assert (event.correlation_id, event.causation_id) == (correlation, cause)

    def test_without_a_correlation_id_has_that_of_its_cause(self, billing):
        """Failed: it began a new chain, so the timeline of a request ended before the answer."""
        Outbox().given("billing.InvoicePaid", order_id=ORDER, amount=Decimal(1))
        cause = Event.objects.get()
        own, unknown = uuid4(), uuid4()
        store(
            billing,
            [
                message(1, causationid=str(cause.id)),
                message(2, causationid=str(cause.id), correlationid=str(own)),
                message(3, causationid=str(unknown)),
            ],
        )

        first, second, third = Event.objects.exclude(pk=cause.pk).order_by("seq")
        assert (first.causation_id, first.correlation_id) == (cause.id, cause.correlation_id)
        assert (second.causation_id, second.correlation_id) == (cause.id, own)
        assert third.causation_id == unknown
        assert third.correlation_id not in (cause.correlation_id, own)

    def test_continues_the_trace_of_its_sender(self, billing, settings):
        settings.OUTBOX = {**settings.OUTBOX, "TRACING": True}
        trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

        store(billing, [message(1, traceparent=f"00-{trace}-{span}-01"), message(2)])

        own, other = Event.objects.order_by("seq").values_list("traceparent", flat=True)
        assert trace in own
        assert trace not in other

    def test_keeps_the_trace_state_of_its_sender(self, billing, settings):
        settings.OUTBOX = {**settings.OUTBOX, "TRACING": True}
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        state = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"

        store(billing, [message(1, traceparent=parent, tracestate=state), message(2)])

        own, other = Event.objects.order_by("seq").values_list("tracestate", flat=True)
        assert (own, other) == (state, "")

    def test_keeps_the_first_512_characters_of_a_trace_state(self, billing, settings):
        settings.OUTBOX = {**settings.OUTBOX, "TRACING": True}
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        state = ",".join(f"vendor{number}={'x' * 90}" for number in range(8))

        store(billing, [message(1, traceparent=parent, tracestate=state)])

        stored = Event.objects.get().tracestate
        assert state.startswith(stored)
        assert stored.count(",") == 4

    def test_with_an_invalid_trace_context_is_stored(self, billing, settings):
        settings.OUTBOX = {**settings.OUTBOX, "TRACING": True}

        assert store(billing, [message(traceparent="of my own", tracestate="=")])["stored"] == 1

    @pytest.mark.parametrize("given", ["", "order 7", 7])
    def test_with_a_correlation_id_that_is_no_uuid_gets_a_new_one(self, billing, given):
        store(billing, [message(correlationid=given)])

        assert Event.objects.get().correlation_id.version == 7

    def test_is_remembered_with_its_event(self, billing):
        store(billing, [message()])

        row = Received.objects.get()
        assert (row.source, row.external_id) == ("billing", "/billing id-1")
        assert row.event == Event.objects.get().id


class TestTheLogOfDuplicates:
    @pytest.mark.django_db(transaction=True)
    def test_has_their_number_and_each_position(self, billing, caplog):
        store(billing, [message(1)])
        caplog.set_level(logging.DEBUG, logger="outbox.sources")

        store(billing, [message(1), message(2), message(2)])

        infos = [one.getMessage() for one in caplog.records if one.levelno == logging.INFO]
        details = [one.getMessage() for one in caplog.records if one.levelno == logging.DEBUG]
        assert infos == ["billing: 2 of 3 messages were received before. They are dropped."]
        assert details == [
            "billing: /billing id-1 at invoices/0/1 was received before.",
            "billing: /billing id-2 at invoices/0/2 was received before.",
        ]

    def test_is_empty_without_any(self, billing, caplog):
        caplog.set_level(logging.INFO, logger="outbox.sources")

        store(billing, [message(1)])

        assert caplog.text == ""


class TestADuplicate:
    def test_is_dropped_and_counted(self, billing):
        store(billing, [message()])

        counts = store(billing, [message(), message(2)])

        assert (counts["stored"], counts["duplicates"]) == (1, 1)
        assert names() == ["billing.InvoicePaid"] * 2

    def test_in_one_batch_is_dropped_and_the_first_is_kept(self, billing):
        other = message(data={"order_id": str(ORDER), "amount": "99"})

        counts = store(billing, [message(), other])

        assert counts["duplicates"] == 1
        assert Event.objects.get().payload["amount"] == "12.50"
        assert Received.objects.get().event == Event.objects.get().id

    def test_of_another_sender_of_the_source_is_none(self, billing):
        store(billing, [message(), message(source="/other")])

        assert len(names()) == 2

    def test_with_a_very_long_id_is_dropped(self, billing):
        long = "x" * 5000

        store(billing, [message(id=long)])
        store(billing, [message(id=long), message(id=long + "y")])

        assert len(names()) == 2

    def test_is_counted_in_the_state_of_the_source(self, billing):
        store(billing, [message()])
        store(billing, [message()])

        flush()

        state = SourceState.objects.get()
        assert (state.source, state.stored, state.duplicates) == ("billing", 1, 1)


class TestABatch:
    def test_keeps_its_order(self, billing):
        orders = [new_order() for _ in range(20)]

        store(billing, [message(number, data=data) for number, data in enumerate(orders)])

        keys = Event.objects.order_by("seq").values_list("key", flat=True)
        assert list(keys) == [one["order_id"] for one in orders]

    def test_is_stored_completely_or_not_at_all(self, billing):
        with pytest.raises(RuntimeError), transaction.atomic():
            store(billing, [message(1), message(2)])
            raise RuntimeError

        assert names() == []
        assert store(billing, [message(1), message(2)])["stored"] == 2

    @pytest.mark.django_db(transaction=True)
    def test_is_stored_with_its_ids_or_not_at_all(self, billing):
        def fail() -> None:
            raise OperationalError("the connection is lost")

        with (
            failpoints.armed(failpoints.BEFORE_STORE, fail),
            pytest.raises(OperationalError),
        ):
            store(billing, [message(1), message(2)], retry=lambda action: action())

        assert names() == []
        assert not Received.objects.exists()

    def test_that_the_database_refuses_is_stored_without_the_refused_message(
        self, billing, monkeypatch
    ):
        """A value that passes all checks, and that the database refuses, blocks nothing."""
        bad = new_order()
        insert = emission.store

        def refuse(event, **options):
            if event.key == bad["order_id"]:
                raise DataError("numeric field overflow")
            return insert(event, **options)

        monkeypatch.setattr(emission, "store", refuse)

        counts = store(billing, [message(1), message(2, data=bad), message(3)])

        assert (counts["stored"], counts["unreadable"], counts["duplicates"]) == (2, 1, 0)
        assert sorted(names()) == ["billing.InvoicePaid"] * 2 + ["outbox.UnreadableMessageReceived"]

    def test_with_a_cause_that_the_database_refuses_is_stored_without_it(
        self, billing, monkeypatch
    ):
        """The copy of a refused message has nothing of the content that may be refused again."""
        insert = emission.store

        def refuse(event, **options):
            if current_cause().correlation_id == cause:
                raise DataError("invalid input syntax for type uuid")
            return insert(event, **options)

        cause = uuid4()
        monkeypatch.setattr(emission, "store", refuse)

        counts = store(billing, [message(1, correlationid=str(cause)), message(2)])

        assert (counts["stored"], counts["unreadable"]) == (1, 1)


@pytest.mark.django_db(transaction=True)
class TestTwoProcessesWithOneMessage:
    def test_store_it_once(self, billing):
        """The second one waits for the first transaction, and drops its copy."""
        batches = [[message(n) for n in range(30)], [message(n) for n in reversed(range(30))]]
        counts: list[int] = []

        def run(batch):
            try:
                counts.append(store(billing, batch)["stored"])
            finally:
                connections.close_all()

        threads = [threading.Thread(target=run, args=(batch,)) for batch in batches]
        for one in threads:
            one.start()
        for one in threads:
            one.join()

        assert sum(counts) == 30
        assert len(names()) == 30
