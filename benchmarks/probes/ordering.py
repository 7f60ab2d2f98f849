"""Place orders in the shop at a steady pace: `python -m benchmarks.probes.ordering COUNT RATE`."""

from __future__ import annotations

import json
import sys
import time

import django


def main(count: int, per_second: float) -> None:
    """Place them, each in its own transaction, as the view does."""
    django.setup()
    began = time.perf_counter()
    for number in range(1, count + 1):
        _place()
        time.sleep(max(0.0, began + number / per_second - time.perf_counter()))
    print(json.dumps({"placed": count}))


def _place() -> None:
    from django.contrib.auth.models import User

    from orders.services import WantedLine, place_order

    place_order(
        customer=User.objects.get(username="alice"),
        lines=[WantedLine(sku="TEA-SENCHA", quantity=1)],
        payment_method="tok_success",
        email="alice@example.com",
        language="en",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
