from __future__ import annotations

from uuid import UUID

from outbox import DomainEvent


class OrderNoted(DomainEvent, key="order_id"):
    """Something that only the quick handler hears."""

    order_id: UUID
