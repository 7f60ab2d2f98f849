"""What the shop as a whole tells a monitor, beside the outbox: whether its books balance."""

from __future__ import annotations

from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse

from outbox.metrics import Family, metrics
from shop.models import Reconciliation


def answer(request: HttpRequest) -> HttpResponse:
    return metrics(request, more=_books)


def _books() -> Iterator[Family]:
    """Say nothing while the books were never looked at."""
    latest = Reconciliation.objects.first()
    if latest is None:
        return
    told = {
        "shop_books_balanced": ("0: they differ.", float(latest.balanced)),
        "shop_books_differences": ("Things that do not hold.", latest.differences),
        "shop_books_checked_timestamp_seconds": (
            "When they were looked at.",
            latest.checked_at.timestamp(),
        ),
    }
    for name, (text, value) in told.items():
        yield Family(name, "gauge", f"The books, as last reconciled. {text}", samples=[((), value)])
