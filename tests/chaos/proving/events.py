from uuid import UUID

from outbox import DomainEvent


class Told(DomainEvent, key="thing_id"):
    """The teller told something of a thing; the thing counts how often."""

    thing_id: UUID
    number: int


class Poisoned(DomainEvent, key="thing_id"):
    """Whoever swallows this dies of it."""

    thing_id: UUID
