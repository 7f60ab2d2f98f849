from uuid import UUID

from outbox import DomainEvent


class Changed(DomainEvent, key="thing_id"):
    """The command `change_things` changed a thing, which counts its changes."""

    thing_id: UUID
    number: int


class Poisoned(DomainEvent, key="thing_id"):
    """This event kills its worker."""

    thing_id: UUID
