from uuid import UUID

from outbox import DomainEvent


class Struck(DomainEvent, key="thing_id"):
    """Something happened to a thing. `how` tells the handlers how to misbehave."""

    thing_id: UUID
    how: str = ""


class Queued(DomainEvent, key="thing_id"):
    """Something for the slow handler alone."""

    thing_id: UUID


class Echoed(DomainEvent, key="thing_id"):
    """A handler heard of it and says so."""

    thing_id: UUID


class Counted(DomainEvent, key="thing_id"):
    """Something for the handler that keeps each thing's events in order."""

    thing_id: UUID


class Spared(DomainEvent, key="thing_id"):
    """Something for the handler that has a single attempt."""

    thing_id: UUID


class Lingered(DomainEvent, key="thing_id"):
    """Something that takes long."""

    thing_id: UUID
