"""What webhooks says."""

from __future__ import annotations

from uuid import UUID

from outbox import DomainEvent


class MessageWritten(DomainEvent, key="message_id"):
    """An endpoint is to be told something. Thin: the message says what, and to whom."""

    message_id: UUID


class EndpointUrlChanged(DomainEvent, key="owner_id"):
    """An endpoint has a URL whose host nobody has looked up yet.

    The owner is the key, so that the checks of one customer follow one another and their slow name
    server occupies one worker process at most.
    """

    owner_id: int
    endpoint_id: UUID


class EndpointDisabled(DomainEvent, key="endpoint_id"):
    """We stopped telling an endpoint anything, without being asked to."""

    endpoint_id: UUID
    because: str
