"""One trace from the request to the last handler, by the real relay and the real delivery."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import time_machine
from django.conf import settings as django_settings
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pytest_django import Settings

from outbox import DomainEvent, EventRecord, PermanentFailure, emit, operations, subscribe
from outbox.context import CorrelationFilter
from outbox.contracts.cloudevents import attributes
from outbox.deliveries.sync import sync_subscriptions
from outbox.models import DelayedEvent, Delivery, Event
from outbox.testing import Outbox

HANDLER = "tests.count"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """The exporter of this process's spans. A provider can be set only once."""
    found = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    trace.set_tracer_provider(provider)
    return found


@pytest.fixture
def spans(
    own_registry: None, settings: Settings, exporter: InMemorySpanExporter
) -> InMemorySpanExporter:
    settings.OUTBOX = {**settings.OUTBOX, "TRACING": True}
    exporter.clear()
    return exporter


class Chain:
    """An event whose handler emits another one for a second handler."""

    def __init__(self) -> None:
        class Ordered(DomainEvent, key="order_id"):
            order_id: UUID

        class Counted(DomainEvent, key="order_id"):
            order_id: UUID

        self.fails = False

        @subscribe("tests.Ordered")
        def count(order_id: UUID) -> None:
            if self.fails:
                raise ValueError("no use")
            emit(Counted(order_id=order_id))

        @subscribe("tests.Counted")
        def announce() -> None: ...

        self.outbox = Outbox()
        self.event = Ordered

    def emit(self, delay: timedelta | None = None) -> None:
        """Emit within a span, as a request does."""
        with trace.get_tracer("test").start_as_current_span("POST /orders"), transaction.atomic():
            emit(self.event(order_id=uuid4()), delay=delay)


def found(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (one,) = [span for span in spans.get_finished_spans() if span.name == name]
    return one


def last(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    return [span for span in spans.get_finished_spans() if span.name == name][-1]


def parent_of(span: ReadableSpan) -> int:
    return span.parent.span_id if span.parent else 0


def id_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context
    return context.span_id


def trace_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context
    return context.trace_id


class TestTheTraceState:
    """W3C Trace Context: vendors add members, and every hop passes them on."""

    STATE = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"

    def emit(self, chain: Chain, **more: Any) -> None:
        carrier = {
            "traceparent": "00-" + "4" * 32 + "-" + "1" * 16 + "-01",
            "tracestate": self.STATE,
        }
        token = attach(TraceContextTextMapPropagator().extract(carrier))
        try:
            chain.emit(**more)
        finally:
            detach(token)

    def test_reaches_the_events_that_a_handler_emits(self, spans):
        chain = Chain()
        self.emit(chain)
        chain.outbox.deliver_all()

        assert list(Event.objects.values_list("tracestate", flat=True)) == [self.STATE] * 2

    def test_is_part_of_a_published_event(self, spans):
        records: list[EventRecord] = []
        chain = Chain()

        @subscribe("tests.Ordered")
        def export(event: EventRecord) -> None:
            records.append(event)

        sync_subscriptions()
        self.emit(chain)
        chain.outbox.deliver_all()

        [record] = records
        assert record.tracestate == self.STATE
        assert attributes(record, source="/shop")["tracestate"] == self.STATE

    def test_of_a_delayed_event_ends_with_its_trace(self, spans):
        """Its emission begins a new trace, which has no members of other systems."""
        chain = Chain()
        self.emit(chain, delay=timedelta(hours=1))
        stored = DelayedEvent.objects.get()
        with time_machine.travel(timezone.now() + timedelta(hours=2)):
            chain.outbox.deliver_all()

        assert stored.tracestate == self.STATE
        assert Event.objects.earliest("seq").tracestate == ""


class TestATrace:
    def test_covers_the_request_its_handlers_and_their_events(self, spans):
        chain = Chain()
        chain.emit()
        chain.outbox.deliver_all()

        request = found(spans, "POST /orders")
        emitted = found(spans, "emit tests.Ordered")
        handled = found(spans, f"{HANDLER} tests.Ordered")
        again = found(spans, "emit tests.Counted")
        attempt = found(spans, "tests.announce tests.Counted")
        assert parent_of(emitted) == id_of(request)
        assert parent_of(found(spans, "relay tests.Ordered")) == id_of(emitted)
        assert parent_of(found(spans, "wait tests.Ordered")) == id_of(emitted)
        assert parent_of(handled) == id_of(emitted)
        assert parent_of(again) == id_of(handled)
        assert parent_of(attempt) == id_of(again)
        assert {trace_of(span) for span in spans.get_finished_spans()} == {trace_of(request)}

    def test_shows_how_long_an_event_waited(self, spans):
        chain = Chain()
        chain.emit()
        Event.objects.update(emitted_at=F("emitted_at") - timedelta(seconds=90))
        with time_machine.travel(timezone.now(), tick=False):
            chain.outbox.deliver_all(only=HANDLER)

        relay, wait = found(spans, "relay tests.Ordered"), found(spans, "wait tests.Ordered")

        assert (relay.end_time or 0) - (relay.start_time or 0) >= 90 * 10**9
        assert wait.start_time == relay.end_time
        assert wait.end_time
        assert wait.end_time <= (found(spans, f"{HANDLER} tests.Ordered").end_time or 0)

    def test_follows_the_conventions_for_messaging(self, spans):
        chain = Chain()
        chain.emit()
        chain.outbox.deliver_all(only=HANDLER)

        event = Event.objects.earliest("seq")
        emitted = found(spans, "emit tests.Ordered")
        handled = found(spans, f"{HANDLER} tests.Ordered")
        assert (emitted.kind, handled.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
        shared = {
            "messaging.system": "outbox",
            "messaging.destination.name": "tests.Ordered",
            "messaging.message.id": str(event.id),
            "messaging.message.conversation_id": str(event.correlation_id),
        }
        assert shared.items() <= dict(emitted.attributes or {}).items()
        assert shared.items() <= dict(handled.attributes or {}).items()
        assert (emitted.attributes or {})["messaging.operation.type"] == "create"
        assert (handled.attributes or {})["messaging.operation.type"] == "process"
        assert (handled.attributes or {})["messaging.consumer.group.name"] == HANDLER
        assert (handled.attributes or {})["outbox.outcome"] == "done"

    def test_shows_a_failure_and_the_next_attempt(self, spans):
        chain = Chain()
        chain.emit()
        chain.fails = True
        chain.outbox.deliver_all(only=HANDLER, raise_errors=False)
        chain.fails = False
        chain.outbox.let_pass(timedelta(hours=9))
        chain.outbox.deliver_all(only=HANDLER)

        handled = [span for span in spans.get_finished_spans() if span.name.startswith(HANDLER)]

        assert handled[0].status.status_code == StatusCode.ERROR
        assert (handled[0].attributes or {})["error.type"] == "ValueError"
        assert (handled[-1].attributes or {})["outbox.outcome"] == "done"
        assert {trace_of(span) for span in handled} == {trace_of(found(spans, "POST /orders"))}

    def test_ends_at_a_delivery_that_waited_for_long(self, spans):
        """Seen to fail with every attempt made a child of its event."""
        chain = Chain()
        chain.emit()
        Event.objects.update(emitted_at=F("emitted_at") - timedelta(hours=9))
        chain.outbox.deliver_all(only=HANDLER)

        self.links(spans, f"{HANDLER} tests.Ordered", to="emit tests.Ordered")

    def test_links_a_replayed_delivery(self, spans):
        chain = Chain()
        chain.emit()
        chain.outbox.deliver_all()
        operations.replay(
            operations.Choice(
                handler=HANDLER, ids=tuple(Delivery.objects.values_list("id", flat=True))
            ),
            by="ann",
            reason="a test",
        )
        chain.outbox.deliver_all()

        self.links(spans, f"{HANDLER} tests.Ordered", to="emit tests.Ordered")

    def test_links_a_delayed_event(self, spans):
        chain = Chain()
        chain.emit(delay=timedelta(minutes=1))
        chain.outbox.let_pass(timedelta(minutes=2))
        planned = found(spans, "emit tests.Ordered")
        assert DelayedEvent.objects.get().traceparent
        spans.clear()

        chain.outbox.deliver_all()

        span = found(spans, "emit tests.Ordered")
        assert trace_of(span) != trace_of(planned)
        assert [link.context.span_id for link in span.links] == [id_of(planned)]
        assert parent_of(found(spans, f"{HANDLER} tests.Ordered")) == id_of(span)

    def links(self, spans: InMemorySpanExporter, name: str, *, to: str) -> None:
        origin, linked = found(spans, to), last(spans, name)
        assert linked.parent is None
        assert trace_of(linked) != trace_of(origin)
        assert [link.context.span_id for link in linked.links] == [id_of(origin)]
        span = last(spans, "emit tests.Counted")
        assert parent_of(span) == id_of(linked)

    def test_is_named_in_its_log_lines(self, spans):
        record = logging.makeLogRecord({})
        with trace.get_tracer("test").start_as_current_span("POST /orders"):
            CorrelationFilter().filter(record)

        assert vars(record)["trace_id"] == f"{trace_of(found(spans, 'POST /orders')):032x}"

    def test_contains_no_personal_data(self, spans):
        class Noted(DomainEvent, key="order_id"):
            order_id: UUID
            card: str

        @subscribe("tests.Noted", attempts=1)
        def refuse(card: str) -> None:
            raise PermanentFailure("no use")

        outbox = Outbox()
        with transaction.atomic():
            emit(Noted(order_id=uuid4(), card="Anns-card"))
        outbox.deliver_all(raise_errors=False)

        assert "Anns-card" not in "".join(span.to_json() for span in spans.get_finished_spans())


@pytest.mark.usefixtures("own_registry")
class TestWithoutTracing:
    def test_an_event_has_no_context(self):
        chain = Chain()

        chain.emit()

        assert Event.objects.get().traceparent == ""

    def test_costs_the_same_statements_as_with_it(self, exporter, settings):
        chain = Chain()

        def statements() -> int:
            with CaptureQueriesContext(connection) as captured:
                chain.emit()
                chain.outbox.deliver_all()
            return len(captured)

        statements()
        before = statements()
        settings.OUTBOX = {**settings.OUTBOX, "TRACING": True}

        assert statements() == before

    def test_is_imported_by_no_module(self):
        program = (
            "import sys; from django.core.wsgi import get_wsgi_application as start; start(); "
            "print({name.partition('.')[0] for name in sys.modules} & "
            "{'opentelemetry', 'prometheus_client'})"
        )

        result = subprocess.run(
            [sys.executable, "-c", program],
            cwd=django_settings.BASE_DIR,
            env={**os.environ, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )

        assert result.stdout == "set()\n"
