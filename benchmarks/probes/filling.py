"""A history: `python -m benchmarks.probes.filling EVENTS`, with a receipt of each handler.

By set-based SQL. The oldest events make up days of `DAY` events each, from `FIRST_DAY` ago on, so
that a day can be pruned; the others are a hundred days old. Prints the seconds that it took.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

import django

from benchmarks.probes import milliseconds, print_json
from benchmarks.project.payload import new_payload

DAY, DAYS = 600, 20
FIRST_DAY = timedelta(days=1000)

EVENTS = """
INSERT INTO outbox_event (id, name, version, key, payload, emitted_at, correlation_id,
                          emitted_by, actor, fanned_out_at)
SELECT gen_random_uuid(), 'ours.OrderPlaced', 1, gen_random_uuid()::text, %(payload)s,
       at.at, gen_random_uuid(), '', '', at.at
FROM generate_series(0, %(events)s - 1) AS n, LATERAL (
    SELECT CASE WHEN n < %(old)s THEN now() - %(first_day)s + n / %(day)s * interval '1 day'
                ELSE now() - interval '100 days' + n * interval '1 millisecond' END AS at
) AS at
"""

RECEIPTS = """
INSERT INTO outbox_delivery (event_id, subscription_id, state, due_at, token, started_token,
                             attempts, worker, note, started_at, settled_at)
SELECT e.seq, s.id, 'done', e.emitted_at, 1, 1, 1, 'worker@here', '', e.emitted_at, e.emitted_at
FROM outbox_event e JOIN outbox_subscription s ON s.event = e.name
"""


def main(events: int) -> None:
    """Fill the tables, and let the planner know."""
    django.setup()
    print_json(milliseconds(lambda: _fill(events)) / 1000)


def _fill(events: int) -> None:
    from django.db import connection

    values: dict[str, Any] = {
        "events": events,
        "payload": json.dumps(new_payload()),
        "first_day": FIRST_DAY,
        "day": DAY,
        "old": DAY * DAYS,
    }
    with connection.cursor() as cursor:
        # Else the keys of each row are looked up.
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(EVENTS, values)
        cursor.execute(RECEIPTS)
        cursor.execute("VACUUM (ANALYZE, FREEZE) outbox_event, outbox_delivery")


if __name__ == "__main__":
    main(int(sys.argv[1]))
