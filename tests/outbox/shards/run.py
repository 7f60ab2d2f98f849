"""Send goods to and fro between two shards, wait until nothing is owed, and print the books."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from uuid import uuid4

import django

SHARDS = ("default", "shard_1")
SKU, STOCK = "lamp", 1000


def main(number: int) -> None:
    """Send so many goods."""
    django.setup()
    from outbox.models import Delivery, Event
    from tests.outbox.shards.stock import services
    from tests.outbox.shards.stock.models import Movement, Stock

    for using in SHARDS:
        Stock.objects.using(using).create(sku=SKU, quantity=STOCK)
    for position in range(number):
        of, to = SHARDS[:: 1 if position % 2 else -1]
        services.send(sku=SKU, quantity=1 + position % 5, transfer=uuid4(), of=of, to=to)
        time.sleep(0.02)
    print("sent", flush=True)

    def owed() -> int:
        return sum(
            Delivery.objects.using(using).exclude(state="done").count()
            + Event.objects.using(using).filter(fanned_out_at=None).count()
            for using in SHARDS
        )

    while owed():
        time.sleep(0.2)
    changes: dict[str, list[int]] = {}
    for using in SHARDS:
        for row in Movement.objects.using(using).all():
            changes.setdefault(str(row.transfer), []).append(row.change)
    books = {
        "stock": sum(Stock.objects.using(using).get().quantity for using in SHARDS),
        "transfers": len(changes),
        "movements of a transfer": dict(Counter(len(mine) for mine in changes.values())),
        "unbalanced": sum(sum(mine) != 0 for mine in changes.values()),
        "arrivals": sum(
            Event.objects.using(using).filter(name="stock.StockArrived").count() for using in SHARDS
        ),
    }
    print(f"books {json.dumps(books)}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
