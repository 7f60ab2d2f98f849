"""How long an order waits, and for whom the time runs.

A deadline measures the customer and the bank, never us: work that we have not done yet, because
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
    """How long an order may wait for this; None: without an end."""
    length: timedelta | None = settings.SHOP_DEADLINES.get(awaits)
    return length or None


def is_our_own_delay(order_id: UUID) -> bool:
    """Whether the order waits for us: for what we have not done, or not yet asked the bank.

    A question that the bank failed to answer waits for its next attempt. That is the bank's time.
    """
    key = str(order_id)
    return is_owed(key=key, to=OURS) or is_owed(key=key, to=BANK, failed=False)
