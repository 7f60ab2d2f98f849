from uuid import UUID

from outbox import DomainEvent


class Struck(DomainEvent, key="thing_id"):
    """An event of a thing. `how` names the fault of its handlers."""

    thing_id: UUID
    how: str = ""


class Queued(DomainEvent, key="thing_id"):
    """An event for the slow handler only."""

    thing_id: UUID


class Echoed(DomainEvent, key="thing_id"):
    """A handler received the event."""

    thing_id: UUID


class Counted(DomainEvent, key="thing_id"):
    """An event for the ordered handler."""

    thing_id: UUID


class Spared(DomainEvent, key="thing_id"):
    """An event for the handler with a single attempt."""

    thing_id: UUID


class Lingered(DomainEvent, key="thing_id"):
    """An event whose handling takes long."""

    thing_id: UUID
