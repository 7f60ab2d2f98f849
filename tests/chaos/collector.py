"""A collector of traces: stores the spans that OpenTelemetry's exporter sends over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span


@dataclass(frozen=True)
class StoredSpan:
    """One span, as it arrived.

    Attributes:
        process: the pid of the emitting program; a pool's children have that of their parent.
    """

    name: str
    trace: bytes
    id: bytes
    parent: bytes
    links: frozenset[bytes]
    attributes: dict[str, str]
    process: int
    seconds: float


@dataclass
class Collector:
    url: str = ""
    _spans: list[StoredSpan] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self._spans += _spans(group)

    def named(self, name: str) -> list[StoredSpan]:
        """All spans of this name so far."""
        return [span for span in list(self._spans) if span.name == name]

    def of(self, trace: bytes) -> list[StoredSpan]:
        """All spans of a trace so far."""
        return [span for span in list(self._spans) if span.trace == trace]


@contextmanager
def collecting() -> Iterator[Collector]:
    """Yield a collector that listens on loopback."""
    collector = Collector()

    class Connection(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Connection)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _spans(group: ResourceSpans) -> Iterator[StoredSpan]:
    resource = {one.key: one.value for one in group.resource.attributes}
    process = resource["process.pid"].int_value
    for scope in group.scope_spans:
        for span in scope.spans:
            yield _stored(span, process)


def _stored(span: Span, process: int) -> StoredSpan:
    return StoredSpan(
        name=span.name,
        trace=span.trace_id,
        id=span.span_id,
        parent=span.parent_span_id,
        links=frozenset(link.span_id for link in span.links),
        attributes={one.key: one.value.string_value for one in span.attributes},
        process=process,
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )
