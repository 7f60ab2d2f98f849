"""The e-mail with the link that verifies the address of an account."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from shared.mail import is_sendable, printable, send_to_account
from storefront import account_email
from storefront.verification import LINK_LASTS, is_verified, token_of


def is_too_late(requested_at: datetime) -> bool:
    """Return whether the mail server was away for as long as a link lasts."""
    return timezone.now() - requested_at > LINK_LASTS


def send(user: User, *, language: str, origin: str, event_id: UUID) -> None:
    """Send the link to the present address of an account, unless it is verified.

    Args:
        origin: scheme and host of the site, such as "https://shop.example.com".

    Raises:
        OSError: as `shared.mail.send_to_account`.
    """
    if not is_sendable(user.email) or is_verified(user):
        return
    with translation.override(language):
        message = account_email.message_to(
            user,
            subject=_("Verify your e-mail address"),
            text=_text(user, origin),
            event_id=event_id,
        )
    send_to_account(message, user_id=user.pk)


def _text(user: User, origin: str) -> str:
    text = _(
        "The account %(name)s of our shop has this e-mail address.\n\n"
        "Verify within three days that it is yours:\n\n    %(url)s\n\n"
        "If you have no such account, ignore this e-mail. Somebody may have mistyped an address.\n"
    )
    url = origin + reverse("storefront:verify_address", args=[token_of(user)])
    return text % {"name": printable(user.get_username()), "url": url}
