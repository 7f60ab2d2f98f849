"""The events of a transfer: it leaves one shard, and arrives in the other one."""

from __future__ import annotations

from uuid import UUID

from outbox import DomainEvent


class StockSent(DomainEvent, key="sku"):
    """A quantity has left this shard. It is stored there."""

    sku: str
    transfer: UUID
    quantity: int
    to: str


class StockArrived(DomainEvent, key="sku"):
    """A quantity arrives in this shard. It is stored there."""

    sku: str
    transfer: UUID
    quantity: int
