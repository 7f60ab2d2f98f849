"""Events that webhooks emits."""

from __future__ import annotations

from uuid import UUID

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import DomainEvent


class MessagesWritten(DomainEvent, key="about_id", share="owner:{owner_id}"):
    """Messages to endpoints of one owner are ready to be sent. Their rows have the text.

    They are about an order or, if the owner sends a test message, about an endpoint.
    """

    about_id: UUID
    owner_id: int
    message_ids: list[UUID]

    def in_words(self) -> str:
        number = len(self.message_ids)
        return (
            ngettext("%d webhook message written", "%d webhook messages written", number) % number
        )


class EndpointUrlChanged(DomainEvent, key="endpoint_id", share="owner:{owner_id}"):
    """An endpoint has a URL whose host is not checked yet."""

    endpoint_id: UUID
    owner_id: int

    def in_words(self) -> str:
        return _("URL of a webhook endpoint changed: its host is to be checked")


class EndpointDisabled(DomainEvent, key="endpoint_id"):
    """The system disabled an endpoint, without a request of its owner or of staff."""

    endpoint_id: UUID
    because: str

    def in_words(self) -> str:
        return _("Webhook endpoint disabled: %s") % self.because.replace("_", " ")
