"""The e-mail with the link to a new password."""

from __future__ import annotations

from collections.abc import Sequence
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

from shared.mail import is_sendable, printable, send_to_account
from storefront import account_email
from storefront.services import MOST_LINKS


def is_too_late(requested_at: datetime) -> bool:
    """Return whether the customer has long given up: the mail server was away for an hour."""
    return (timezone.now() - requested_at).total_seconds() > settings.PASSWORD_RESET_TIMEOUT


def send(user_ids: Sequence[int], *, language: str, origin: str, event_id: UUID) -> None:
    """Send one e-mail with a link for each of these users, under the same Message-ID each time.

    Args:
        user_ids: of users with the same address, the most important first.
        origin: scheme and host of the site, such as "https://shop.example.com".

    Raises:
        OSError: as `shared.mail.send_to_account`.
    """
    users = _users(user_ids)
    if not users or not is_sendable(users[0].email):
        return
    with translation.override(language):
        message = _message(users, origin, event_id)
    send_to_account(message, user_id=users[0].pk)


def _users(user_ids: Sequence[int]) -> list[User]:
    """Return those who may still get a link, and have the address of the first of them."""
    customers = User.objects.filter(is_active=True, is_staff=False, is_superuser=False)
    known = customers.in_bulk(user_ids)
    users = [known[one] for one in user_ids if one in known]
    return [user for user in users if user.email == users[0].email][:MOST_LINKS]


def _message(users: Sequence[User], origin: str, event_id: UUID) -> EmailMessage:
    link = _("Account %(name)s:\n    %(url)s\n")
    links = [
        link % {"name": printable(user.get_username()), "url": origin + _path(user)}
        for user in users
    ]
    text = _(
        "Somebody, probably you, has requested a new password.\n\n"
        "Choose it within an hour:\n\n%(links)s\n"
        "If it was not you, ignore this e-mail. Your password has not changed.\n"
    )
    return account_email.message_to(
        users[0],
        subject=_("Choose a new password"),
        text=text % {"links": "\n".join(links)},
        event_id=event_id,
    )


def _path(user: User) -> str:
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    return reverse("storefront:new_password", args=[uid, default_token_generator.make_token(user)])
