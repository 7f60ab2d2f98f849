"""The events of the app `depot`."""

from __future__ import annotations

from uuid import UUID

from outbox import DomainEvent


class PlaceAssigned(DomainEvent, key="parcel_id"):
    """A parcel has a place in the depot."""

    parcel_id: UUID
