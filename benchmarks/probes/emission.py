"""Time that `emit()` adds to a transaction: `python -m benchmarks.probes.emission BLOCKS`.

Prints the milliseconds of a transaction that stores an order and does nothing more, inserts the
event's row by hand, or emits. Each value is the mean of a block of transactions, one after the
other, so that the thread which sends nudges costs those who nudge. The time of COMMIT
is left out: it is the disk's, is the same with one row more, and varies more than the result.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import django

from benchmarks.harness import in_turn
from benchmarks.probes import milliseconds, print_json
from benchmarks.project.payload import Payload, new_payload

BLOCK = 10

Publish = Callable[[Payload], None]


def main(blocks: int) -> None:
    """Measure the three in turn."""
    django.setup()
    from benchmarks.project.ours.publishing import publish as emit

    ways: dict[str, Publish] = {"nothing": _nothing, "insert": _bare_insert(), "emit": emit}
    measures = {name: partial(_block, way) for name, way in ways.items()}
    print_json(in_turn(measures, repeats=blocks, warm_ups=3))


def _block(way: Publish) -> float:
    orders = [new_payload() for _ in range(BLOCK)]
    with _committing() as commits:
        took = milliseconds(lambda: _place(orders, way))
    return (took - sum(commits)) / BLOCK


@contextmanager
def _committing() -> Iterator[list[float]]:
    """Note how long each COMMIT takes. Functions of `on_commit` run after it."""
    from django.db import connections

    own, taken = vars(connections["default"]), list[float]()
    commit = connections["default"]._commit
    own["_commit"] = lambda: taken.append(milliseconds(commit))
    try:
        yield taken
    finally:
        del own["_commit"]


def _place(orders: Sequence[Payload], way: Publish) -> None:
    """Store each order in a transaction of its own."""
    from django.db import transaction

    from benchmarks.project.sales.models import Order

    for payload in orders:
        with transaction.atomic():
            Order.objects.create(order_id=payload["order_id"], total=payload["total"])
            way(payload)


def _nothing(_payload: Payload) -> None:
    pass


def _bare_insert() -> Publish:
    """Return an INSERT of the same row, with the values as Python has them."""
    from uuid import uuid4

    from django.db import connection
    from django.utils import timezone
    from psycopg.types.json import Jsonb

    columns = "id, name, version, key, payload, emitted_at, correlation_id, emitted_by, actor"
    statement = f"INSERT INTO outbox_event ({columns}) VALUES ({', '.join(['%s'] * 9)})"  # noqa: S608

    def insert(payload: Payload) -> None:
        key, now = payload["order_id"], timezone.now()
        values: list[Any] = [
            uuid4(),
            "ours.OrderPlaced",
            1,
            key,
            Jsonb(payload),
            now,
            uuid4(),
            "",
            "",
        ]
        with connection.cursor() as cursor:
            cursor.execute(statement, values)

    return insert


if __name__ == "__main__":
    main(int(sys.argv[1]))
