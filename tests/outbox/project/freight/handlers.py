"""The subscriptions of the app `freight`."""

from __future__ import annotations

from uuid import UUID

from outbox import subscribe

from .models import Parcel


@subscribe("depot.PlaceAssigned")
def mark_stored(parcel_id: UUID) -> None:
    """Store that the parcel lies in the depot."""
    Parcel.objects.filter(pk=parcel_id).update(status="stored")


@subscribe("freight.ShipmentArrived")
def close_parcel(parcel_id: UUID) -> None:
    """Store that the parcel has arrived."""
    Parcel.objects.filter(pk=parcel_id).update(status="received")
