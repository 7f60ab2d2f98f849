from __future__ import annotations

from uuid import UUID

from outbox import DomainEvent


class CustomerOrdered(DomainEvent, key="customer"):
    """A customer placed one more order."""

    customer: str
    order_id: UUID
