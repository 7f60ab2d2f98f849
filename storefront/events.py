"""The events that the storefront emits, and handles itself."""

from __future__ import annotations

from uuid import UUID

from django.utils.translation import gettext as _

from outbox import DomainEvent


class PasswordResetRequested(DomainEvent, key="request_id"):
    """A visitor requested a new password. It carries no address, and no users if none has it.

    The accounts are those of the address. The link in the e-mail begins with the origin.
    """

    request_id: UUID
    user_ids: list[int]
    language: str
    origin: str

    def in_words(self) -> str:
        return _("New password requested")


class VerificationRequested(DomainEvent, key="request_id"):
    """The e-mail address of an account is to be verified. It carries no address.

    The link goes to the address that the account has by then, unless a newer request of the account
    replaces this one. It begins with the origin.
    """

    request_id: UUID
    user_id: int
    language: str
    origin: str

    def in_words(self) -> str:
        return _("Verification of an e-mail address requested")
