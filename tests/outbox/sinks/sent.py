"""Messages that tests of sinks publish."""

from __future__ import annotations

import json
from collections.abc import Mapping
from uuid import UUID, uuid4

from django.utils import timezone

from outbox.events import EventRecord
from outbox.sinks.base import SinkMessage


def message(
    topic: str,
    *,
    key: str = "42",
    id: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> SinkMessage:
    """Return a message with a new event; its id unless one is given."""
    event = event_record(key)
    id = id or str(event.id)
    if headers is None:
        headers = {"id": id, "type": event.name, "source": "/tests"}
    return SinkMessage(
        id=id,
        event=event,
        topic=topic,
        key=key,
        headers=headers,
        body=json.dumps({"id": id}).encode() if body is None else body,
    )


def event_record(key: str) -> EventRecord:
    return EventRecord(
        id=uuid4(),
        name="freight.ParcelSent",
        version=1,
        key=key,
        payload={"parcel_id": key},
        emitted_at=timezone.now(),
        correlation_id=UUID(int=1),
    )
