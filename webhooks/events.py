"""What webhooks says."""

from __future__ import annotations

from uuid import UUID

from outbox import DomainEvent


class MessageWritten(DomainEvent, key="message_id"):
    """An endpoint is to be told something. Thin: the message says what, and to whom."""

    message_id: UUID


class EndpointDisabled(DomainEvent, key="endpoint_id"):
    """We stopped telling an endpoint anything, without being asked to."""

    endpoint_id: UUID
    because: str
