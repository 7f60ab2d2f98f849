"""The least that a publisher can do: read rows, publish a batch, mark the rows.

`python -m benchmarks.project.ours.raw_publish SINK COUNT`. Copies the emitted events into a table
with three columns, and publishes the same messages by the same client and in the same batches as
the sink. The attributes of their CloudEvents are constants, apart from id and key.
Prints, as JSON, events a second from the first batch to the last.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import django
import psycopg

if TYPE_CHECKING:
    from outbox.sinks.base import Sink, SinkMessage

TOPIC = os.environ["BENCHMARK_TOPIC"].format(event="OrderPlaced")
NOW = datetime.now(UTC)
TIME = NOW.isoformat().replace("+00:00", "Z")

CREATE = b"""
CREATE TABLE raw_outbox AS SELECT id, key, payload, false AS is_published FROM outbox_event;
ALTER TABLE raw_outbox ADD seq bigserial PRIMARY KEY;
CREATE INDEX ON raw_outbox (seq) WHERE NOT is_published;
ANALYZE raw_outbox
"""
TAKE = b"""
SELECT seq, id, key, payload FROM raw_outbox WHERE NOT is_published ORDER BY seq LIMIT %s
FOR UPDATE SKIP LOCKED
"""
MARK = b"UPDATE raw_outbox SET is_published = true WHERE seq = ANY(%s)"


def main() -> None:
    """Publish all events."""
    django.setup()
    from outbox.sinks.configuration import configured, sink_of

    config = configured()[sys.argv[1]]
    sink = sink_of(config)
    left, marked = int(sys.argv[2]), []
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(CREATE)
        while left:
            with connection.transaction():
                rows = connection.execute(TAKE, [config.batch]).fetchall()
                results = sink.publish([_message(sink, *row[1:]) for row in rows], timeout=30)
                assert not any(results), results
                connection.execute(MARK, [[row[0] for row in rows]])
            left -= len(rows)
            marked.append((time.monotonic(), len(rows)))
    began, ended = marked[0][0], marked[-1][0]
    print(json.dumps(sum(number for _at, number in marked[1:]) / (ended - began)))


def _message(sink: Sink, event_id: UUID, key: str, payload: dict[str, Any]) -> SinkMessage:
    from outbox.events import EventRecord
    from outbox.sinks.base import SinkMessage

    record = EventRecord(
        id=event_id,
        name="ours.OrderPlaced",
        version=1,
        key=key,
        payload=payload,
        emitted_at=NOW,
        correlation_id=event_id,
    )
    headers, body = _parts(sink, str(event_id), key, payload)
    return SinkMessage(
        id=str(event_id), event=record, topic=TOPIC, key=key, headers=headers, body=body
    )


def _parts(
    sink: Sink, event_id: str, key: str, payload: dict[str, Any]
) -> tuple[dict[str, str], bytes]:
    attributes = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/benchmark",
        "type": "ours.OrderPlaced.v1",
        "subject": key,
        "time": TIME,
        "partitionkey": key,
        "correlationid": event_id,
    }
    if sink.encoding == "structured":
        return {}, json.dumps({**attributes, "data": payload}).encode()
    prefix = sink.header_prefix
    headers = {f"{prefix}{name}": value for name, value in attributes.items()}
    return {"content-type": "application/json", **headers}, json.dumps(payload).encode()


if __name__ == "__main__":
    main()
