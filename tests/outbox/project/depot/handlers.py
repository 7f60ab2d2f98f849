"""The subscriptions of the app `depot`."""

from __future__ import annotations

from uuid import UUID

from outbox import emit, subscribe

from .events import PlaceAssigned


@subscribe("freight.ShipmentBooked")
def store_parcel(parcel_id: UUID) -> None:
    """Give the parcel a place."""
    emit(PlaceAssigned(parcel_id=parcel_id))


@subscribe("freight.ShipmentRefused")
def remove_parcel(parcel_id: UUID) -> None:
    """Free the place of a parcel that goes back."""
