"""Messages for tests of one sink."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from outbox.events import EventRecord
from outbox.ids import uuid7
from outbox.sinks.base import Sink, SinkMessage


def message(
    topic: str, body: bytes = b"{}", *, headers: Mapping[str, str] | None = None
) -> SinkMessage:
    """Return a message of a new event."""
    event = EventRecord(
        id=uuid7(),
        name="freight.ParcelSent",
        version=1,
        key="parcel-1",
        payload={},
        emitted_at=datetime.now(UTC),
        correlation_id=uuid7(),
    )
    return SinkMessage(
        id=str(event.id),
        event=event,
        topic=topic,
        key=event.key,
        headers={"content-type": "application/json", **(headers or {})},
        body=body,
    )


def publish(sink: Sink, *messages: SinkMessage, timeout: float = 30) -> list[Exception | None]:
    """Return one result per message, also if none was acknowledged."""
    try:
        return list(sink.publish(messages, timeout=timeout))
    except Exception as error:
        return [error] * len(messages)
