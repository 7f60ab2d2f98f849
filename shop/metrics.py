"""Metrics of the shop, besides those of the outbox: the latest reconciliation."""

from __future__ import annotations

from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse

from outbox.metrics import Family, metrics
from shop.models import Reconciliation


def answer(request: HttpRequest) -> HttpResponse:
    """Return the page `/metrics`: the outbox's metrics and the shop's."""
    return metrics(request, more=families)


def families() -> Iterator[Family]:
    """Yield the metrics of the latest reconciliation; nothing before the first."""
    latest = Reconciliation.objects.first()
    if latest is None:
        return
    values = {
        "balanced": ("1: it found no difference.", float(latest.balanced)),
        "differences": ("Number of differences that it found.", latest.differences),
        "checked_timestamp_seconds": (
            "Unix time of its snapshot.",
            latest.checked_at.timestamp(),
        ),
    }
    for name, (text, value) in values.items():
        name, text = f"shop_reconciliation_{name}", f"The latest reconciliation. {text}"
        yield Family(name, "gauge", text, samples=[((), value)])
