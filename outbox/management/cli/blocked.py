"""List the keys that a dead or waiting delivery holds up, for handlers that keep order."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.db.models import Count

from outbox.models import Delivery
from outbox.monitor.diagnosis import why

from .common import count

_SHOWN = 50


def add_arguments(parser: ArgumentParser) -> None:
    """Declare how many."""
    parser.add_argument("--last", type=int, default=_SHOWN, metavar="N", help="how many keys (50)")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write each key with what comes first, the most held up first."""
    rows = Delivery.objects.filter(state=Delivery.State.BLOCKED)
    keys = rows.values("subscription__handler", "order_key").annotate(number=Count("pk"))
    found = list(keys.order_by("-number", "order_key")[: max(1, options["last"])])
    for row in found:
        _write(row["subscription__handler"], row["order_key"], row["number"], write)
    if not found:
        write("No key is blocked.")


def _write(handler: str, key: str | None, number: int, write: Callable[[str], object]) -> None:
    owed = Delivery.objects.filter(order_key=key, subscription__handler=handler)
    first = owed.filter(state__in=Delivery.OWED).select_related("subscription", "event")
    head = first.order_by("event").first()
    write(f"{key} of {handler}: {count(number, 'delivery', 'deliveries')} blocked")
    if head is not None:
        write(f"    by delivery {head.pk} ({head.state}): {why(head)}")
