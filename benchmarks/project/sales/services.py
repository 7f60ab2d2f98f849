"""The work of every side's handler."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from .models import Effect


def record(order_id: UUID | str, quantities: Iterable[int]) -> None:
    """Insert one row through the ORM."""
    Effect.objects.create(order_id=order_id, quantity=sum(quantities))
