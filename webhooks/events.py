"""What webhooks says."""

from __future__ import annotations

from uuid import UUID

from outbox import DomainEvent


class MessageWritten(DomainEvent, key="message_id", share="owner:{owner_id}"):
    """A message is ready to be sent. The message itself has the endpoint and the text."""

    message_id: UUID
    owner_id: int = 0


class EndpointUrlChanged(DomainEvent, key="endpoint_id", share="owner:{owner_id}"):
    """An endpoint has a URL whose host was not looked up yet."""

    endpoint_id: UUID
    owner_id: int


class EndpointDisabled(DomainEvent, key="endpoint_id"):
    """We stopped telling an endpoint anything, without being asked to."""

    endpoint_id: UUID
    because: str
