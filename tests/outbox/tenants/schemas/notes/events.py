from __future__ import annotations

from outbox import DomainEvent


class NoteWritten(DomainEvent, key="number"):
    """A customer has written a note."""

    number: int
    text: str


class NoteStored(DomainEvent, key="text"):
    """A note is in the customer's schema."""

    text: str
