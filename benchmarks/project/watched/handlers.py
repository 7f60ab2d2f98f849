"""Two more subscribers, so that each order has three deliveries."""

from __future__ import annotations

from uuid import UUID

from outbox import subscribe


@subscribe("ours.OrderPlaced")
def pack_order(order_id: UUID) -> None:
    """Do nothing: the way to this call is measured."""


@subscribe("ours.OrderPlaced")
def thank_customer(order_id: UUID) -> None:
    """Do nothing, as well."""
