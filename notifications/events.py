"""Events that notifications emits, and handles itself."""

from __future__ import annotations

from uuid import UUID

from django.utils.translation import gettext as _

from outbox import DomainEvent


class ResendRequested(DomainEvent, key="order_id"):
    """Staff requested that an e-mail be sent once more, as it was written."""

    order_id: UUID
    resend_id: UUID

    def in_words(self) -> str:
        return _("Another sending of an e-mail requested")
