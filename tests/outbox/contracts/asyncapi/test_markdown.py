"""The page in Markdown."""

# No `from __future__ import annotations`: pydantic sees the local classes of tests.

from typing import Any
from uuid import UUID

import pytest
from pydantic import Field

from outbox import DomainEvent, Sensitive, subscribe
from outbox.contracts.asyncapi import document
from outbox.contracts.asyncapi.markdown import as_markdown

#: It needs no PostgreSQL.
pytestmark = pytest.mark.once


class TestThePage:
    def test_describes_a_channel_of_a_sink(self, own_registry: None, settings: Any):
        class ParcelSent(DomainEvent, key="parcel_id"):
            """A parcel left the house."""

            parcel_id: UUID = Field(description="Left | right\nside.")
            email: Sensitive[str]

        @subscribe("tests.ParcelSent")
        def record(parcel_id: UUID) -> None: ...

        sink = {
            "BACKEND": "tests.outbox.sinks.memory.StructuredSink",
            "EVENTS": ["tests.ParcelSent"],
            "TOPIC": "parcels",
            "FORMAT": "debezium",
        }
        settings.OUTBOX = {"SINKS": {"out": sink}, "ASYNCAPI_TITLE": "Parcels"}

        page = as_markdown(document())

        assert page.startswith(
            """# Parcels

Version 1.0.0. Written by `manage.py outbox asyncapi`.

## parcels

Channel: `memory://{host}`.
Sent by: `publish to out`.

The sink out. First occurrences of the events of one key are in order.

### Message tests.ParcelSent.v1

| field | type | required | description |
| --- | --- | --- | --- |
| `parcel_id` | a string (uuid) | yes | Left \\| right side. |

| header | type | required | description |
| --- | --- | --- | --- |
| `id` | a string (uuid) | yes | The event's id (UUIDv7). |
| `eventType` | "tests.ParcelSent" | yes |  |
| `eventVersion` | "1" | yes |  |

Example, `application/json`:

```json
{
  "parcel_id": "0197f2a4-5c1e-7d3b-8a6f-0123456789a1"
}
```
"""
        )
        received = "Received by: `tests.record`."
        assert f"Channel: internal.\nSent by: `emit tests.ParcelSent`.\n{received}" in page
