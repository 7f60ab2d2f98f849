"""The shop's reaction to the carrier."""

from __future__ import annotations

from uuid import UUID

from orders import services
from outbox import subscribe


@subscribe("carrier.ParcelBooked")
def ship_order(order_id: UUID, carrier: str, tracking_number: str) -> None:
    """Mark the order as shipped. A second message about the same parcel changes nothing."""
    services.ship_order(
        order_id=order_id, carrier=carrier, tracking_number=tracking_number, by="source:carrier"
    )
