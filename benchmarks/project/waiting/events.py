from __future__ import annotations

from uuid import UUID

from outbox import DomainEvent


class OrderNoted(DomainEvent, key="order_id"):
    """An event with one subscriber, the quick handler."""

    order_id: UUID
