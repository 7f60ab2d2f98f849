"""Small messages with a content type, and a call of a sink."""

from __future__ import annotations

from collections.abc import Mapping

from outbox.sinks.base import Sink, SinkMessage
from tests.outbox.sinks import sent


def message(
    topic: str, body: bytes = b"{}", *, headers: Mapping[str, str] | None = None
) -> SinkMessage:
    """Return a message of a new event."""
    typed = {"content-type": "application/json", **(headers or {})}
    return sent.message(topic, body=body, headers=typed)


def publish(sink: Sink, *messages: SinkMessage, timeout: float = 30) -> list[Exception | None]:
    """Return one result per message, also if none was acknowledged."""
    try:
        return list(sink.publish(messages, timeout=timeout))
    except Exception as error:
        return [error] * len(messages)
