"""Queries and milliseconds of each page of the monitor, with a long history.

    .venv/bin/python -m benchmarks.pages [events] [--handlers 200] [--only overview map ...]

On PostgreSQL (DATABASE_URL, else the one from the wheel), in a database of its own. Stores events
(default 1,000,000) and about three deliveries for each, then asks for every page five times as
staff do, through Django, without a web server. Prints Markdown: for each page the number of
queries, the time that the database took for them, the processor's time for all of the rest, and the
whole. Each is the least of five, since other work of the machine can only add to it. With
`--handlers`, so many more handlers subscribe to the events, and were busy in the last hour.
PAGES_DATABASE names a database that is filled once and kept.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import cycle
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from django.test import Client

    from tests.outbox.history import History

TIMES = 5
#: Three deliveries for an event, on average.
NAMES = (
    "orders.OrderPlaced",
    "orders.OrderCancelled",
    "orders.OrderReadyToShip",
    "payments.PaymentCaptured",
)
RARE = "inventory.StockUnavailable"
#: Handlers of one of the apps that are added.
HANDLERS_OF_AN_APP = 10


def main(events: int, *, handlers: int, only: Sequence[str]) -> None:
    """Fill, measure, print."""
    name = os.environ.get("PAGES_DATABASE") or f"pages_{uuid4().hex[:8]}"
    is_new = _prepare(name)
    history = _history(events, handlers=handlers, is_new=is_new)
    from outbox.models import Delivery, Event

    print(f"\n{Event.objects.count():,} events, {Delivery.objects.count():,} deliveries\n")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n")
    print("| page | queries | ms, database | ms, processor | ms, in all |")
    print("| --- | --- | --- | --- | --- |")
    for page, queries, taken in _measured(history, only):
        least = [f"{min(part) * 1000:.0f}" for part in zip(*taken, strict=True)]
        print(f"| {page} | {queries} | {' | '.join(least)} |", flush=True)


def _prepare(name: str) -> bool:
    """Make the settings' database this one, with all migrations; return whether it is new."""
    import psycopg

    from tests.databases import postgresql_url

    base, _slash, _name = postgresql_url().rpartition("/")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    os.environ["OUTBOX"] = json.dumps({"NUDGE": False})
    os.environ["DATABASE_URL"] = f"{base}/{name}"
    with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
        is_new = known.fetchone() is None
        if is_new:
            connection.execute(f"CREATE DATABASE {name}".encode())
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    return is_new


def _history(events: int, *, handlers: int, is_new: bool) -> History:
    from django.db import connection

    from tests.outbox import history

    if not is_new:
        return history.known(RARE)
    began = time.monotonic()
    _add_handlers(handlers)
    filled = history.store(events, names=NAMES, rare=RARE)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE outbox_event, outbox_delivery")
    print(f"stored within {time.monotonic() - began:.0f} s")
    return filled


def _add_handlers(number: int) -> None:
    """Store subscriptions of other apps, and for each an hour of minutes."""
    from django.utils import timezone

    from outbox.models import Minute, Subscription

    now = timezone.now().replace(second=0, microsecond=0)
    known = [Subscription.objects.filter(event=name)[0] for name in NAMES]
    for one, row in zip(range(number), cycle(known), strict=False):
        row.pk, row.queue = None, f"app{one // HANDLERS_OF_AN_APP}"
        row.handler = f"{row.queue}.handle_{one}"
        row.save(force_insert=True)
        Minute.objects.bulk_create(
            Minute(handler=row.handler, minute=now - timedelta(minutes=ago), done=ago, lag_3=ago)
            for ago in range(60)
        )


def _measured(
    history: History, only: Sequence[str]
) -> Iterator[tuple[str, int, list[tuple[float, float, float]]]]:
    """Each page: how many queries it asks, and for each time the seconds of the three kinds."""
    from tests.outbox.monitor_pages import pages

    client = _staff()
    wanted = pages(history)
    for page, url in [(name, wanted[name]) for name in only or wanted]:
        client.get(url)
        asked: list[float] = []
        taken = []
        for _ in range(TIMES):
            processor, clock = time.process_time(), time.perf_counter()
            asked = _asked(client, url)
            spent = time.process_time() - processor, time.perf_counter() - clock
            taken.append((sum(asked), *spent))
        yield page, len(asked), taken


def _asked(client: Client, url: str) -> list[float]:
    """The seconds that each query of a page took."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        answer = client.get(url)
    assert answer.status_code == 200, (url, answer.status_code)
    return [float(query["time"]) for query in captured.captured_queries]


def _staff() -> Client:
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client(headers={"host": "localhost"})
    user, _is_new = User.objects.get_or_create(
        username="staff", defaults={"is_staff": True, "is_superuser": True}
    )
    client.force_login(user)
    return client


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("events", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--handlers", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], metavar="PAGE")
    given = parser.parse_args()
    main(given.events, handlers=given.handlers, only=given.only)
