"""Traces to a collector by OpenTelemetry's SDK, which reads its own variables (OTEL_...).

Importing this module needs the SDK. It is imported only if a collector is set.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status

from shop.logs import without_links


class MaskingExporter(SpanExporter):
    """Exports spans by another exporter, without the secret parts of links.

    A span has the address of its request, and may have headers and the texts of exceptions. An
    exporter sees what each instrumentation has added, also at the end of the span.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export masked copies of the spans."""
        return self._exporter.export([_masked_span(span) for span in spans])

    def shutdown(self) -> None:
        """Shut down the other exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return whether the other exporter has sent everything within these milliseconds."""
        return self._exporter.force_flush(timeout_millis)


def start() -> None:
    """Set up the SDK in this process, with a span for each request. Forks set it up again."""
    os.environ.setdefault("OTEL_SERVICE_NAME", "shop")
    os.environ.setdefault("OTEL_PYTHON_DJANGO_EXCLUDED_URLS", "livez,readyz,metrics")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(MaskingExporter(OTLPSpanExporter())))
    trace.set_tracer_provider(provider)
    DjangoInstrumentor().instrument()


def _masked_span(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=without_links(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_masked(span.attributes),
        events=[Event(one.name, _masked(one.attributes), one.timestamp) for one in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, _masked(span.status.description)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _masked(value: Any) -> Any:
    """Return an attribute's value, or a mapping of attributes, without secrets."""
    if isinstance(value, str):
        return without_links(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return tuple(_masked(one) for one in value)
    if hasattr(value, "items"):
        return {name: _masked(one) for name, one in value.items()}
    return value
