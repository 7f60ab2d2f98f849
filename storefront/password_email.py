"""The e-mail with the link to a new password."""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import EmailMessage
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.utils.translation import gettext as _

from shared.mail import is_sendable, printable, sender_domain

logger = logging.getLogger(__name__)


def is_too_late(requested_at: datetime) -> bool:
    """Return whether the customer has long given up: the mail server was away for an hour."""
    return (timezone.now() - requested_at).total_seconds() > settings.PASSWORD_RESET_TIMEOUT


def send(user_ids: Iterable[int], *, language: str, origin: str, event_id: UUID) -> None:
    """Send a link to each of these users, under the same Message-ID each time.

    A permanent refusal of an address is logged as a warning: a repetition would not help.

    Args:
        origin: scheme and host of the site, such as "https://shop.example.com".

    Raises:
        OSError: the server is unreachable, or refuses for now (SMTPException is an OSError).
    """
    for user in User.objects.filter(pk__in=list(user_ids), is_active=True):
        if not is_sendable(user.email):
            continue
        with translation.override(language):
            message = _message(user, origin, f"<{event_id}.{user.pk}@{sender_domain()}>")
        try:
            message.send()
        except smtplib.SMTPRecipientsRefused as refusal:
            if any(code < 500 for code, _text in refusal.recipients.values()):
                raise
            logger.warning("The mail server refuses the address of the account user:%s.", user.pk)


def _message(user: User, origin: str, message_id: str) -> EmailMessage:
    text = _(
        "Somebody, probably you, has requested a new password for the account %(name)s.\n\n"
        "Choose it within an hour:\n\n    %(url)s\n\n"
        "If it was not you, ignore this e-mail. Your password has not changed.\n"
    )
    return EmailMessage(
        subject=_("Choose a new password"),
        body=text % {"name": printable(user.get_username()), "url": origin + _path(user)},
        to=[user.email],
        headers={
            "Message-ID": message_id,
            "Content-Language": translation.get_language(),
            "Auto-Submitted": "auto-generated",
        },
    )


def _path(user: User) -> str:
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    return reverse("storefront:new_password", args=[uid, default_token_generator.make_token(user)])
