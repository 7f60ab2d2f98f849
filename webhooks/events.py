"""Events that webhooks emits."""

from __future__ import annotations

from uuid import UUID

from outbox import DomainEvent


class MessageWritten(DomainEvent, key="message_id", share="owner:{owner_id}"):
    """A message is ready to be sent. Its row has the endpoint and the text."""

    message_id: UUID
    owner_id: int = 0


class EndpointUrlChanged(DomainEvent, key="endpoint_id", share="owner:{owner_id}"):
    """An endpoint has a URL whose host is not checked yet."""

    endpoint_id: UUID
    owner_id: int


class EndpointDisabled(DomainEvent, key="endpoint_id"):
    """The system disabled an endpoint, without a request of its owner or of staff."""

    endpoint_id: UUID
    because: str
