"""The carrier's events, as the shop reads them."""

from __future__ import annotations

from uuid import UUID

from outbox.sources import ExternalEvent


class ParcelBooked(
    ExternalEvent, source="carrier", type="com.example.parcel.booked", key="order_id"
):
    """The carrier takes the parcel. It is the answer to `OrderReadyToShip`."""

    order_id: UUID
    carrier: str
    tracking_number: str
