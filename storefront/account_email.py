"""E-mails to the address of an account: the origin of their links, and their headers."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.http import HttpRequest
from django.http.request import split_domain_port
from django.utils import translation

from shared.mail import sender_domain


def site_origin(request: HttpRequest) -> str:
    """Return SITE_ORIGIN, or the scheme and the host name of the request without its port.

    A client chooses the port of its Host header. ALLOWED_HOSTS checks the name only.
    """
    if settings.SITE_ORIGIN:
        return str(settings.SITE_ORIGIN)
    name, _port = split_domain_port(request.get_host())
    return f"{request.scheme}://{name}"


def message_to(user: User, *, subject: str, text: str, event_id: UUID) -> EmailMessage:
    """Return an e-mail in the active language. A repetition has the same Message-ID."""
    return EmailMessage(
        subject=subject,
        body=text,
        to=[user.email],
        headers={
            "Message-ID": f"<{event_id}@{sender_domain()}>",
            "Content-Language": translation.get_language(),
            "Auto-Submitted": "auto-generated",
        },
    )
