"""Traces that leave the shop: a reader of them gets no link that is a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shop.telemetry import MaskingExporter
from tests.chaos.collector import collecting
from tests.shop.test_settings import manage

LINKS = ("/account/new-password/MQ/d6mjcn-0123/", "/account/verify/d6mjcn:0123:4567/")
MASKED = ("/account/new-password/***/***/", "/account/verify/***/")

ASK = f"""
from django.test import Client
client = Client(raise_request_exception=False, HTTP_HOST="localhost")
for path in {LINKS}:
    client.get(path)
    client.get(path, RAW_URI=path, HTTP_REFERER=path)
"""


class TestARequestWithASecretLink:
    @pytest.mark.parametrize("convention", ["", "http", "http/dup"])
    def test_is_exported_without_the_secret(self, tmp_path: Path, convention: str):
        """OpenTelemetry names the address by http.url, http.target or url.path."""
        with collecting() as collector:
            answer = manage(
                tmp_path,
                *("shell", "--no-imports", "--command", ASK),
                OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
                OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="process",
                OTEL_SEMCONV_STABILITY_OPT_IN=convention,
                OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST="referer",
            )
            assert answer.returncode == 0, answer.stderr
            exported = str(collector)

        assert "d6mjcn" not in exported
        assert all(path in exported for path in MASKED)


class TestAnExportedSpan:
    @pytest.fixture
    def span(self) -> ReadableSpan:
        memory, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(MaskingExporter(memory)))
        tracer = provider.get_tracer("shop")
        with (
            pytest.raises(ValueError, match="d6mjcn"),
            tracer.start_as_current_span(
                f"GET {LINKS[0]}", attributes={"referer": LINKS, "status": 500}
            ),
        ):
            raise ValueError(f"No page: {LINKS[1]}")
        [span] = memory.get_finished_spans()
        return span

    def test_has_no_secret_in_its_name_attributes_exception_and_status(self, span: ReadableSpan):
        assert "d6mjcn" not in span.to_json()
        assert "d6mjcn" not in str(span.status.description)
        assert span.name == f"GET {MASKED[0]}"
        assert span.events[0].attributes
        assert span.events[0].attributes["exception.message"] == f"No page: {MASKED[1]}"

    def test_keeps_everything_else(self, span: ReadableSpan):
        assert span.attributes == {"referer": MASKED, "status": 500}
        assert span.context is not None
        assert span.end_time is not None
        assert span.start_time is not None
        assert span.instrumentation_scope is not None
        assert span.instrumentation_scope.name == "shop"
        assert not span.status.is_ok
