"""OpenTelemetry traces from the request through `emit`, the relay and every handler.

The trace context is stored in the event's row. So it needs no broker and is as durable as the
event. Spans follow OpenTelemetry's conventions for messaging:

    emit orders.OrderPlaced                        in the caller's span
      relay orders.OrderPlaced                     from its emission to its fan-out
      wait orders.OrderPlaced                      from its fan-out to a handler's start
      inventory.reserve_stock orders.OrderPlaced   the attempt, parent of the events it emits

A delayed event, a late retry and a replay each begin a new trace, with a link to the original one.
A trace that lasts for days is unreadable.

Without `OUTBOX["TRACING"]`, nothing is traced and `opentelemetry` is not imported.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError

from outbox import clock

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, Tracer

    from .models import DelayedEvent, Delivery

#: Most characters of a stored trace state: those that W3C Trace Context requires to be kept.
_LONGEST_STATE = 512

#: An attempt that starts later than this after its event begins a new trace, with a link.
LATE = timedelta(minutes=15)


class Traced:
    """The span of one attempt, or no span if tracing is off."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span
        self.returned_at = 0

    def failed(self, kind: str, *, text: str = "") -> None:
        """Mark the attempt as failed, with the class and the cleaned text of its exception."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attribute("error.type", kind)
            self._span.set_status(Status(StatusCode.ERROR, f"{kind}: {text}" if text else kind))

    def ended(self, outcome: str) -> None:
        """Record the outcome of the attempt."""
        if self._span is not None:
            self._span.set_attribute("outbox.outcome", outcome)
            if self.returned_at:
                self._span.end(self.returned_at)


_UNTRACED = Traced()


def is_on() -> bool:
    """Whether this process traces."""
    return bool(getattr(settings, "OUTBOX", {}).get("TRACING"))


def trace_id() -> str:
    """Return the id of the current trace, 32 hexadecimal digits, or ""."""
    if not is_on():
        return ""
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def trace_id_of(traceparent: str) -> str:
    """Return the trace id of a stored trace context, or ""."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""


@contextmanager
def emitting(facts: dict[str, Any]) -> Iterator[None]:
    """Trace the storing of an event, and add its trace context to the stored facts."""
    if not is_on():
        yield
        return
    from opentelemetry.trace import SpanKind

    attributes = {**_of_event(facts), **_operation("emit", "create")}
    name = f"emit {facts['name']}"
    tracer = _tracer()
    with tracer.start_as_current_span(
        name,
        kind=SpanKind.PRODUCER,
        attributes=attributes,
        record_exception=False,  # the database's error quotes the row
        set_status_on_exception=False,
    ) as span:
        facts |= _carrier_of(span)
        try:
            yield
        except BaseException as error:
            Traced(span).failed(type(error).__name__)
            raise


@contextmanager
def received(traceparent: str, tracestate: str) -> Iterator[None]:
    """Continue, in the block, the trace of a message from another system."""
    if not is_on() or not traceparent:
        yield
        return
    from opentelemetry import context

    token = context.attach(_context(traceparent, tracestate))
    try:
        yield
    finally:
        context.detach(token)


def delayed_emission(row: DelayedEvent) -> dict[str, str]:
    """Begin the trace of a delayed event that is emitted now; return the facts of its context."""
    if not is_on() or not row.traceparent:
        return {"traceparent": row.traceparent, "tracestate": row.tracestate}
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind

    facts = {"id": row.id, "name": row.name, "correlation_id": row.correlation_id}
    span = _tracer().start_span(
        f"emit {row.name}",
        context=Context(),
        kind=SpanKind.PRODUCER,
        attributes={
            **_of_event(facts),
            **_operation("emit", "create"),
            "outbox.delayed_seconds": (row.due_at - row.stored_at).total_seconds(),
        },
        links=_link(row.traceparent),
    )
    span.end()
    return _carrier_of(span)


def relayed(events: Sequence[tuple[str, str, datetime]], now: datetime) -> None:
    """Trace the wait of events (name, stored context, emission time) for fan-out until now."""
    if not is_on():
        return
    from opentelemetry.trace import SpanKind

    for name, traceparent, emitted_at in events:
        if traceparent and now - emitted_at < LATE:
            span = _tracer().start_span(
                f"relay {name}",
                context=_context(traceparent),
                kind=SpanKind.PRODUCER,
                attributes={"messaging.destination.name": name, **_operation("relay", "send")},
                start_time=_nanoseconds(emitted_at),
            )
            span.end(_nanoseconds(now))


def handling(
    delivery: Delivery, *, handler: str, using: str, ends: bool = True
) -> AbstractContextManager[Traced]:
    """Trace one attempt, and the wait of its delivery before it.

    `ends` False: its outcome is known only after the block. If the block does not raise, call
    `ended()` with the outcome. The span's end time is the end of the block in any case.
    """
    if not is_on():
        return nullcontext(_UNTRACED)
    return _handling(delivery, handler=handler, using=using, ends=ends)


@contextmanager
def _handling(delivery: Delivery, *, handler: str, using: str, ends: bool) -> Iterator[Traced]:
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind

    event = delivery.event
    is_late = _is_late(delivery, using=using)
    parent = Context() if is_late else _context(event.traceparent, event.tracestate)
    if not is_late:
        _wait(delivery, handler=handler, parent=parent)
    with _tracer().start_as_current_span(
        f"{handler} {event.name}",
        context=parent,
        kind=SpanKind.CONSUMER,
        attributes=_of_attempt(delivery, handler=handler),
        links=_link(event.traceparent) if is_late else [],
        record_exception=False,  # its text may contain personal data
        set_status_on_exception=False,
        end_on_exit=ends,
    ) as span:
        traced = Traced(span)
        try:
            yield traced
        except BaseException as error:
            if ends:
                traced.failed(type(error).__name__)
            else:
                traced.returned_at = time.time_ns()
                traced.ended("rolled_back")
            raise
        if not ends:
            traced.returned_at = time.time_ns()


def _wait(delivery: Delivery, *, handler: str, parent: Context) -> None:
    event = delivery.event
    span = _tracer().start_span(
        f"wait {event.name}",
        context=parent,
        attributes={
            "messaging.destination.name": event.name,
            "messaging.consumer.group.name": handler,
            "outbox.attempt": delivery.attempts,
        },
        start_time=_nanoseconds(event.fanned_out_at or event.emitted_at),
    )
    span.end()


def _is_late(delivery: Delivery, *, using: str) -> bool:
    if not delivery.event.traceparent:
        return False
    if clock.now(using=using) - delivery.event.emitted_at > LATE:
        return True
    if delivery.token < 2:
        return False
    attempts = apps.get_model("outbox", "Attempt")._default_manager.using(using)
    try:
        return bool(attempts.filter(delivery=delivery, outcome="replayed").exists())
    except DatabaseError:  # the attempt itself will meet the database's error
        return False


def _of_attempt(delivery: Delivery, *, handler: str) -> dict[str, Any]:
    event = delivery.event
    facts = {"id": event.id, "name": event.name, "correlation_id": event.correlation_id}
    waited = clock.now() - event.emitted_at
    return {
        **_of_event(facts),
        **_operation(handler, "process"),
        "messaging.consumer.group.name": handler,
        "outbox.attempt": delivery.attempts,
        "outbox.waited_seconds": waited.total_seconds(),
    }


def _of_event(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "messaging.system": "outbox",
        "messaging.destination.name": facts["name"],
        "messaging.message.id": str(facts["id"]),
        "messaging.message.conversation_id": str(facts["correlation_id"]),
    }


def _operation(name: str, kind: str) -> dict[str, str]:
    return {
        "messaging.system": "outbox",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
    }


def _tracer() -> Tracer:
    from opentelemetry import trace

    return trace.get_tracer("outbox")


def _context(traceparent: str, tracestate: str = "") -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {"traceparent": traceparent, "tracestate": tracestate}
    return TraceContextTextMapPropagator().extract(carrier, Context())


def _link(traceparent: str) -> list[Link]:
    from opentelemetry import trace

    context = trace.get_current_span(_context(traceparent)).get_span_context()
    return [trace.Link(context)] if context.is_valid else []


def _carrier_of(span: Span) -> dict[str, str]:
    """Return the context of a span as facts of an event: `traceparent` and `tracestate`."""
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
    return {
        "traceparent": carrier.get("traceparent", ""),
        "tracestate": _shortened(carrier.get("tracestate", "")),
    }


def _shortened(state: str) -> str:
    """Return a trace state without its last members, as W3C Trace Context allows, if it is long."""
    members = state.split(",")
    while len(state) > _LONGEST_STATE:
        members.pop()
        state = ",".join(members)
    return state


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1000
