"""The write-ahead log of events and deliveries: `python -m benchmarks.probes.storage EVENTS`.

Prints the bytes per event and per delivery that the outbox writes, and those of a raw loop that
makes the same transitions of the same rows in as few statements and transactions as it can: event
stored; delivery stored and event marked, for a pass; started, for a message; effect and receipt,
for a message. Autovacuum is off meanwhile: it writes whenever it comes by. Pages that are logged
whole after a checkpoint are left to the warm-up, for both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import django

from benchmarks.harness import in_turn
from benchmarks.probes import print_json
from benchmarks.project.payload import new_payload

#: The window of a handler, and deliveries of a message.
PASS, MESSAGE = 200, 20

INSERT_EVENT = """
INSERT INTO outbox_event (id, name, version, key, payload, emitted_at, correlation_id,
                          emitted_by, actor)
VALUES (%s, 'ours.OrderPlaced', 1, %s, %s, now(), %s, '', '')
"""
FAN_OUT = """
WITH marked AS (
    UPDATE outbox_event SET fanned_out_at = now() WHERE seq IN (
        SELECT seq FROM outbox_event WHERE fanned_out_at IS NULL ORDER BY seq LIMIT %s)
    RETURNING seq)
INSERT INTO outbox_delivery (event_id, subscription_id, state, due_at, token, started_token,
                             attempts, worker, note)
SELECT marked.seq, s.id, 'sent', now() + interval '1 minute', 1, 0, 0, '', ''
FROM marked CROSS JOIN outbox_subscription s WHERE s.event = 'ours.OrderPlaced' RETURNING id
"""
START = """
UPDATE outbox_delivery SET started_token = token, attempts = attempts + 1, started_at = now(),
                           worker = 'worker@here', due_at = now() + interval '1 minute'
WHERE id = ANY(%s)
"""
EFFECTS = """
INSERT INTO sales_effect (order_id, quantity)
SELECT (e.payload->>'order_id')::uuid, 4
FROM outbox_delivery d JOIN outbox_event e ON e.seq = d.event_id WHERE d.id = ANY(%s)
"""
RECEIPTS = "UPDATE outbox_delivery SET state = 'done', settled_at = now() WHERE id = ANY(%s)"


def main(events: int) -> None:
    """Measure both in turn: first the events of one, then its deliveries."""
    django.setup()
    stop_autovacuum()
    steps: dict[str, Callable[[], None]] = {
        "event, emit()": partial(emit_all, events),
        "delivery, relayed and handled": partial(run_all, events),
        "event, raw": partial(_emit_raw, events),
        "delivery, raw": partial(_run_raw, events),
    }
    measures = {name: partial(_bytes, step, events) for name, step in steps.items()}
    print_json(in_turn(measures, repeats=3, warm_ups=1))


def stop_autovacuum() -> None:
    """Stop autovacuum of the measured tables: it writes whenever it comes by."""
    for table in ("outbox_event", "outbox_delivery", "sales_effect"):
        execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")


def _bytes(step: Callable[[], None], events: int) -> float:
    before = execute("SELECT pg_current_wal_insert_lsn()")[0][0]
    step()
    after = execute("SELECT pg_current_wal_insert_lsn()")[0][0]
    written = execute("SELECT pg_wal_lsn_diff(%s, %s)", after, before)[0][0]
    return float(written) / events


def emit_all(events: int) -> None:
    """Emit events, twenty in a transaction."""
    from django.db import transaction

    from benchmarks.project.ours.publishing import publish as emit

    for done in range(0, events, MESSAGE):
        with transaction.atomic():
            for _ in range(min(MESSAGE, events - done)):
                emit(new_payload())


def _emit_raw(events: int) -> None:
    from django.db import transaction
    from psycopg.types.json import Jsonb

    for _ in range(0, events, MESSAGE):
        with transaction.atomic():
            for _ in range(MESSAGE):
                payload = new_payload()
                execute(INSERT_EVENT, uuid4(), payload["order_id"], Jsonb(payload), uuid4())


def run_all(events: int) -> None:
    """Relay and deliver waiting events, until so many deliveries are done."""
    from outbox.relay.passes import relay_pass
    from outbox.transports.base import Message
    from outbox.worker.delivery import deliver

    done = 0
    while done < events:
        messages: list[Message] = []
        relay_pass(publish=messages.append)
        for one in messages:
            ended = deliver(handler_name=one.handler, pairs=one.pairs, worker="worker@here")
            done += sum(result.state == "done" for result in ended)


def _run_raw(events: int) -> None:
    for _ in range(0, events, PASS):
        ids = [row[0] for row in execute(FAN_OUT, PASS)]
        for start in range(0, len(ids), MESSAGE):
            _deliver_raw(ids[start : start + MESSAGE])


def _deliver_raw(ids: list[int]) -> None:
    from django.db import transaction

    execute(START, ids)
    with transaction.atomic():
        execute(EFFECTS, ids)
        execute(RECEIPTS, ids)


def execute(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement; return its rows."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


if __name__ == "__main__":
    main(int(sys.argv[1]))
