"""Events that webhooks emits."""

from __future__ import annotations

from uuid import UUID

from outbox import DomainEvent


class MessagesWritten(DomainEvent, key="about_id", share="owner:{owner_id}"):
    """Messages to endpoints of one owner are ready to be sent. Their rows have the text.

    They are about an order or, if the owner sends a test message, about an endpoint.
    """

    about_id: UUID
    owner_id: int
    message_ids: list[UUID]


class EndpointUrlChanged(DomainEvent, key="endpoint_id", share="owner:{owner_id}"):
    """An endpoint has a URL whose host is not checked yet."""

    endpoint_id: UUID
    owner_id: int


class EndpointDisabled(DomainEvent, key="endpoint_id"):
    """The system disabled an endpoint, without a request of its owner or of staff."""

    endpoint_id: UUID
    because: str
