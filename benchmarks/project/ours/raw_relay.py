"""The least that a relay can do: the outbox's own SQL writes and pushes, with no framework.

Waits for a backlog, then takes 500 events at a time: insert their deliveries, mark them, commit,
push one message for each 20. One psycopg connection and one Redis client; no ORM, no Celery.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import Any

import django
import psycopg
import redis

PER_MESSAGE = 20
QUEUE = "raw"

TAKE = b"""
SELECT seq FROM outbox_event WHERE fanned_out_at IS NULL ORDER BY seq LIMIT 500
FOR UPDATE SKIP LOCKED
"""
MARK = b"UPDATE outbox_event SET fanned_out_at = now() WHERE seq = ANY(%s)"


def main() -> None:
    """Relay until stopped."""
    django.setup()
    insert, values = _insert()
    broker = redis.Redis.from_url(os.environ["REDIS_URL"])
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("SET enable_sort = off")  # as the outbox's relay has it: by the page
        connection.execute("SET synchronous_commit = off")  # as well: a pass can be done again
        while True:
            with connection.transaction():
                seqs = [row[0] for row in connection.execute(TAKE)]
                ids = _store(connection, insert, values, seqs)
            _push(broker, ids)
            if not seqs:
                time.sleep(0.01)


def _insert() -> tuple[bytes, Sequence[Any]]:
    """Return the INSERT of deliveries as the relay makes them, and the values that all share.

    Made from the model, so that it writes the same columns whatever they come to be.
    """
    from django.db import connection
    from django.utils import timezone

    from outbox.models import Delivery, Subscription

    row = Delivery(
        subscription=Subscription.objects.get(event="ours.OrderPlaced"),
        state="sent",
        token=1,
        due_at=timezone.now(),
    )
    fields = [field for field in Delivery._meta.concrete_fields if not field.primary_key]
    names = ", ".join(f'"{field.column}"' for field in fields)
    marks = ", ".join("seq" if field.attname == "event_id" else "%s" for field in fields)
    values = [
        field.get_db_prep_save(getattr(row, field.attname), connection)
        for field in fields
        if field.attname != "event_id"
    ]
    text = f'INSERT INTO "{Delivery._meta.db_table}" ({names}) SELECT {marks} '
    return (text + "FROM unnest(%s::bigint[]) AS seq RETURNING id").encode(), values


def _store(
    connection: psycopg.Connection, insert: bytes, values: Sequence[Any], seqs: Sequence[int]
) -> list[int]:
    if not seqs:
        return []
    ids = [row[0] for row in connection.execute(insert, [*values, list(seqs)])]
    connection.execute(MARK, [list(seqs)])
    return ids


def _push(broker: redis.Redis, ids: Sequence[int]) -> None:
    with broker.pipeline(transaction=False) as pipeline:
        for start in range(0, len(ids), PER_MESSAGE):
            pairs = [(one, 1) for one in ids[start : start + PER_MESSAGE]]
            pipeline.lpush(QUEUE, json.dumps({"pairs": pairs}))
        pipeline.execute()


if __name__ == "__main__":
    main()
