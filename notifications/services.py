"""What notifications does: write an e-mail once, send it, and remember that it was sent."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parseaddr
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.utils import timezone

from notifications.models import Email
from notifications.rendering import render
from orders import queries as orders
from outbox import Receipt


def notify(
    *, order_id: UUID, kind: Email.Kind, receipt: Receipt, about: str = "", **facts: Any
) -> None:
    """Write, send, remember. Nothing is locked and no transaction is open while sending."""
    email = write_email(order_id=order_id, kind=kind, about=about, facts=facts)
    if email.sent_at is None:
        send_email(email)
    with receipt:
        mark_as_sent(email)


def write_email(
    *, order_id: UUID, kind: Email.Kind, facts: Mapping[str, Any], about: str = ""
) -> Email:
    """Store the e-mail of this kind for the order. One that was written before stays as it is."""
    written = Email.objects.filter(order_id=order_id, kind=kind, about=about).first()
    if written:
        return written
    draft = _draft(order_id, kind, facts)
    email, _ = Email.objects.get_or_create(
        order_id=order_id, kind=kind, about=about, defaults=draft
    )
    return email


def send_email(email: Email) -> None:
    """Hand the e-mail to the mail server, under its own Message-ID each time."""
    message = EmailMultiAlternatives(
        subject=email.subject,
        body=email.text,
        to=[email.recipient],
        headers={
            "Message-ID": email.message_id,
            "Content-Language": email.language,
            "Auto-Submitted": "auto-generated",
        },
    )
    message.attach_alternative(email.html, "text/html")
    message.send()


@transaction.atomic
def mark_as_sent(email: Email) -> None:
    Email.objects.filter(pk=email.pk, sent_at=None).update(sent_at=timezone.now())


def _draft(order_id: UUID, kind: Email.Kind, facts: Mapping[str, Any]) -> dict[str, Any]:
    contact = orders.contact(order_id)
    rendered = render(
        kind=kind,
        language=contact.language,
        reference=contact.reference,
        context={"name": contact.name, "order": orders.summary(order_id), **facts},
    )
    row = Email(order_id=order_id)
    return {
        "id": row.id,
        "message_id": f"<{row.id}@{_domain()}>",
        "recipient": contact.email,
        "language": contact.language,
        "subject": rendered.subject,
        "text": rendered.text,
        "html": rendered.html,
    }


def _domain() -> str:
    """The sender's domain, to which the Message-IDs belong."""
    return parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2] or "localhost"
