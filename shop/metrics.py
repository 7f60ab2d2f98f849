"""Metrics of the shop, beside those of the outbox: the latest reconciliation."""

from __future__ import annotations

from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse

from outbox.metrics import Family, metrics
from shop.models import Reconciliation


def answer(request: HttpRequest) -> HttpResponse:
    return metrics(request, more=_reconciliation)


def _reconciliation() -> Iterator[Family]:
    """Yield the metrics of the latest reconciliation; nothing before the first."""
    latest = Reconciliation.objects.first()
    if latest is None:
        return
    values = {
        "shop_books_balanced": ("1 without differences, else 0.", float(latest.balanced)),
        "shop_books_differences": ("Number of differences.", latest.differences),
        "shop_books_checked_timestamp_seconds": (
            "Time of the check, in seconds since 1970.",
            latest.checked_at.timestamp(),
        ),
    }
    for name, (text, value) in values.items():
        yield Family(name, "gauge", f"Latest reconciliation. {text}", samples=[((), value)])
