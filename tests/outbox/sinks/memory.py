"""A sink that keeps its messages in memory, for tests of the parts that need no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outbox.sinks.base import Sink, SinkMessage


class MemorySink(Sink):
    """Accepts every message. Its option "problems" is the result of `check`."""

    max_bytes = 2000
    max_batch = 10

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        self.messages: list[SinkMessage] = []
        self.checked: list[str] = []
        self.is_closed = False

    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        self.messages += messages
        return [None] * len(messages)

    def check(self, topics: Sequence[str], *, timeout: float) -> Sequence[str]:
        self.checked += topics
        if "error" in self.options:
            raise self.options["error"]
        return list(self.options.get("problems", ()))

    def close(self) -> None:
        self.is_closed = True


class StructuredSink(MemorySink):
    """A sink of a system whose limits allow few headers."""

    encoding = "structured"
    header_prefix = "ce_"


NOT_A_SINK = 7
