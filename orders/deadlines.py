"""Deadlines of orders.

A deadline measures the customer and the bank, never us. Work that we have not done yet, because
workers are down, busy or paused, postpones it.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.conf import settings

from outbox import is_owed

OURS = ("orders", "inventory")
BANK = ("payments",)


def length_of(awaits: str) -> timedelta | None:
    """Return how long an order may wait for this; None: without limit."""
    length: timedelta | None = settings.SHOP_DEADLINES.get(awaits)
    return length or None


def is_our_own_delay(order_id: UUID) -> bool:
    """Return whether the order waits for us: for a delivery, or for a first request to the bank.

    After a failed request to the bank, the wait for the next attempt is the bank's time.
    """
    key = str(order_id)
    return is_owed(key=key, to=OURS) or is_owed(key=key, to=BANK, failed=False)
