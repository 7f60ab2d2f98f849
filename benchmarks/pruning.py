"""What pruning costs those who emit: `emit()` beside nothing, and beside a prune of old events.

    .venv/bin/python -m benchmarks.pruning [events] [seconds]

On PostgreSQL (DATABASE_URL, else the one from the wheel), in a database of its own. Stores old
events (default 1,000,000, each with a settled delivery), emits 50 a second for some seconds
(default 30) alone, then while a second process prunes. Prints Markdown and, as its last line, JSON
with the ratio of the two 99th percentiles.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from uuid import uuid4

PACE = 0.02

PRUNE = """
import django
django.setup()
from datetime import timedelta
from outbox import actions
print(actions.prune(older_than=timedelta(days=30)))
"""

OLD_EVENTS = """
INSERT INTO outbox_event (id, name, version, key, payload, emitted_at, correlation_id,
                          emitted_by, actor, fanned_out_at)
SELECT gen_random_uuid(), 'parcels.Sent', 1, 'k' || n, '{"lines": [1, 2, 3]}',
       now() - interval '100 days', gen_random_uuid(), '', '', now() - interval '100 days'
FROM generate_series(1, %s) AS n
"""

OLD_DELIVERIES = """
INSERT INTO outbox_delivery (event_id, subscription_id, state, due_at, token, started_token,
                             attempts, worker, note, settled_at)
SELECT seq, %s, 'done', emitted_at, 1, 1, 1, 'w', '', emitted_at FROM outbox_event
"""


def main(events: int, seconds: float) -> None:
    """Measure, alone and beside a prune, and print both."""
    _prepare()
    from django.db import connection

    _store(events)
    alone = _emit_for(seconds)
    pruning = subprocess.Popen([sys.executable, "-c", PRUNE], stdout=subprocess.PIPE, text=True)
    beside = _emit_for(seconds)
    still = pruning.poll() is None
    removed, _ = pruning.communicate()
    connection.close()
    _print(events, alone, beside, removed=int(removed), to_the_end=still)


def _prepare() -> None:
    """Make the settings' database a fresh one, with all migrations."""
    from tests.databases import postgresql_url

    base, _slash, _name = postgresql_url().rpartition("/")
    name = f"benchmark_{uuid4().hex[:8]}"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    os.environ["OUTBOX"] = json.dumps({"NUDGE": False})
    _create(base, name)
    os.environ["DATABASE_URL"] = f"{base}/{name}"
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def _create(base: str, name: str) -> None:
    import psycopg

    with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())


def _store(events: int) -> None:
    from django.db import connection

    from outbox.models import Subscription

    subscription = Subscription.objects.order_by("id").values_list("id", flat=True)[0]
    with connection.cursor() as cursor:
        cursor.execute(OLD_EVENTS, [events])
        cursor.execute(OLD_DELIVERIES, [subscription])
        cursor.execute("VACUUM ANALYZE outbox_event, outbox_delivery")


def _emit_for(seconds: float) -> list[float]:
    """Emit at a steady pace; return the milliseconds of each transaction, the first 20 left out."""
    from django.db import transaction

    from orders.events import OrderConfirmed
    from outbox import emit

    taken, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        with transaction.atomic():
            emit(OrderConfirmed(order_id=uuid4()))
        taken.append((time.perf_counter() - began) * 1000)
        time.sleep(PACE)
    return taken[20:]


def _print(
    events: int, alone: list[float], beside: list[float], *, removed: int, to_the_end: bool
) -> None:
    print(f"\n{events:,} old events, {removed:,} of them pruned; emit() in ms:\n")
    print("| | median | p99 | transactions |\n| --- | --- | --- | --- |")
    for name, taken in (("alone", alone), ("while pruning", beside)):
        print(f"| {name} | {statistics.median(taken):.2f} | {_p99(taken):.2f} | {len(taken)} |")
    print(
        json.dumps(
            {
                "events": events,
                "p99_ratio": round(_p99(beside) / _p99(alone), 2),
                "median_ratio": round(statistics.median(beside) / statistics.median(alone), 2),
                "pruned_to_the_end_of_the_measurement": to_the_end,
            }
        )
    )


def _p99(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100)[98]


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000,
        float(sys.argv[2]) if len(sys.argv) > 2 else 30,
    )
