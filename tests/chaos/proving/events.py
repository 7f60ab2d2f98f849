from uuid import UUID

from outbox import DomainEvent


class Told(DomainEvent, key="thing_id"):
    """The command `tell` emitted an event of a thing, which counts its events."""

    thing_id: UUID
    number: int


class Poisoned(DomainEvent, key="thing_id"):
    """This event kills its worker."""

    thing_id: UUID
