"""Place orders and publish each one: `python -m benchmarks.project.emit COUNT [options]`.

By default at full speed, one order per transaction. Prints the milliseconds of each as JSON.
With `--seconds` or `--until` COUNT is ignored.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import django


def main() -> None:
    """Emit, within the settings of DJANGO_SETTINGS_MODULE."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--per-second", type=float, help="at a steady pace")
    parser.add_argument("--seconds", type=float, help="place orders for so long")
    parser.add_argument("--until", type=Path, help="place orders until this file exists")
    parser.add_argument("--no-times", action="store_true", help="print no milliseconds")
    parser.add_argument("--batch", type=int, default=1, help="orders a transaction")
    parser.add_argument("--events-only", action="store_true", help="no order beside each")
    parser.add_argument("--linger", type=float, default=0.5, help="seconds, for the last nudge")
    options = parser.parse_args()
    django.setup()
    print(json.dumps({"milliseconds": _emit(options)}))
    time.sleep(options.linger)


def _emit(options: argparse.Namespace) -> list[float]:
    start, taken = time.perf_counter(), []
    count = sys.maxsize if options.seconds or options.until else options.count
    until = start + options.seconds if options.seconds else math.inf
    for number in range(0, count, options.batch):
        began = time.perf_counter()
        if began > until or (options.until and options.until.exists()):
            break
        _place(min(options.batch, count - number), events_only=options.events_only)
        if not options.no_times:
            taken.append(round((time.perf_counter() - began) * 1000, 3))
        if options.per_second:
            time.sleep(max(0.0, start + (number + 1) / options.per_second - time.perf_counter()))
    return taken


def _place(orders: int, *, events_only: bool) -> None:
    from django.conf import settings
    from django.db import transaction
    from django.utils.module_loading import import_string

    from .payload import new_payload
    from .sales.models import Order

    publish = import_string(settings.BENCHMARK_PUBLISH)
    with transaction.atomic():
        for _ in range(orders):
            payload = new_payload()
            if not events_only:
                Order.objects.create(order_id=payload["order_id"], total=payload["total"])
            publish(payload)


if __name__ == "__main__":
    main()
