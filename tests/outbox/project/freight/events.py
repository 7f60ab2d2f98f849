"""The events of the app `freight`."""

from __future__ import annotations

from uuid import UUID

from outbox import DomainEvent


class ShipmentBooked(DomainEvent, key="parcel_id"):
    """A customer posted a parcel."""

    parcel_id: UUID
    weight: int = 0


class ShipmentRefused(DomainEvent, key="parcel_id"):
    """A parcel goes back to its sender."""

    parcel_id: UUID
    reason: str = ""


class ShipmentArrived(DomainEvent, key="parcel_id"):
    """The addressee has the parcel."""

    parcel_id: UUID
