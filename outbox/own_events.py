"""Events that the outbox itself emits."""

from __future__ import annotations

from .events import DomainEvent


class SubjectRedacted(DomainEvent, key="subject"):
    """A person's data was blanked in stored events. Blank what your app has of that person."""

    subject: str
