"""What notifications does: write an e-mail once, send it, and remember that it was sent.

Sent again on request, it is the same e-mail: as it was written, under the same Message-ID. One
that is suppressed is written, too, with the reason; it is sent if staff ask for it.
"""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.utils import timezone
from django.utils.encoding import force_str
from django.utils.translation import gettext as _

from notifications import limits
from notifications.events import ResendRequested
from notifications.models import Email, Resend
from notifications.rendering import render
from orders import queries as orders
from outbox import PermanentFailure, Receipt, emit, is_owed
from smtp import is_sendable, printable, sender_domain

logger = logging.getLogger(__name__)

#: The attempt at which an erasure no longer waits for e-mails in hand; seconds between attempts.
LAST_ERASURE_ATTEMPT = 5
ERASURE_RETRY_SECONDS = 60


def notify(
    *, order_id: UUID, kind: Email.Kind, receipt: Receipt, about: str = "", **facts: Any
) -> None:
    """Write, send, remember. Nothing is locked and no transaction is open while sending.

    One that is suppressed is not sent.
    """
    email = write_email(order_id=order_id, kind=kind, about=about, facts=facts)
    if email is None or email.is_redacted:
        logger.info(
            "No e-mail (%s) is sent for order %s: the customer was forgotten.", kind, order_id
        )
        with receipt:
            return
    if email.suppressed_because:
        _log_suppression(email)
        with receipt:
            return
    if email.sent_at is None:
        send_email(email)
    with receipt:
        mark_as_sent(email)


class StillUnderWay(Exception):
    """An e-mail has not been sent yet, and may be sent at any moment."""


class RecipientForgotten(Exception):
    """An e-mail has no recipient and no text any more: the customer was forgotten."""


@transaction.atomic
def request_resend(*, email_id: UUID, by: str) -> Resend:
    """Have an e-mail sent once more.

    Raises:
        StillUnderWay: it has not been sent a first time, nor refused.
        RecipientForgotten: it was blanked.
    """
    email = Email.objects.select_for_update().get(pk=email_id)
    _refuse_to_resend(email)
    resend = email.resends.create(requested_by=by)
    emit(ResendRequested(order_id=email.order_id, resend_id=resend.id))
    return resend


def _refuse_to_resend(email: Email) -> None:
    facts = {"kind": Email.Kind(email.kind).label, "order": email.order_id}
    if email.is_redacted:
        text = _(
            "The e-mail (%(kind)s) of order %(order)s cannot be sent: the customer was forgotten, "
            "and its address and text are erased."
        )
        raise RecipientForgotten(text % facts)
    if email.is_under_way:
        text = _(
            "The e-mail (%(kind)s) of order %(order)s is not sent yet: its delivery waits, runs or "
            "is dead. It is sent when that delivery succeeds. `manage.py outbox why %(order)s` "
            "names what holds it up; a dead delivery has to be retried."
        )
        raise StillUnderWay(text % facts)


def resend(*, resend_id: UUID, receipt: Receipt) -> None:
    """Send what was asked for again, and remember."""
    wanted = Resend.objects.select_related("email").get(pk=resend_id)
    if wanted.email.is_redacted:
        with receipt:
            return
    if wanted.sent_at is None:
        send_email(wanted.email)
    with receipt:
        mark_as_sent(wanted.email)
        Resend.objects.filter(pk=wanted.pk, sent_at=None).update(sent_at=timezone.now())


def write_email(
    *, order_id: UUID, kind: Email.Kind, facts: Mapping[str, Any], about: str = ""
) -> Email | None:
    """Store the e-mail of this kind for the order. One that was written before stays as it is.

    Returns:
        None if there is none, and the customer was forgotten: there is nobody to write to.
    """
    written = Email.objects.filter(order_id=order_id, kind=kind, about=about).first()
    if written:
        return written
    with transaction.atomic():
        # Locked: a forgetting between this look and the e-mail would miss the e-mail.
        contact = orders.contact(order_id, lock=True)
        if not contact.email:
            return None
        draft = _draft(order_id, kind, facts, contact)
        email, _ = Email.objects.get_or_create(
            order_id=order_id, kind=kind, about=about, defaults=draft
        )
    return email


def send_email(email: Email) -> None:
    """Hand the e-mail to the mail server, under its own Message-ID each time.

    Raises:
        PermanentFailure: the server refuses this e-mail for good, which is noted on it; or its
            address is none on the internet.
        OSError: it is away, or refuses for now (SMTPException is one, too).
    """
    if not is_sendable(email.recipient):
        raise PermanentFailure("The recipient is not an address on the internet.")
    try:
        _message(email).send()
    except smtplib.SMTPException as error:
        refusal = _final_refusal(error)
        if not refusal:
            raise
        unredacted = Email.objects.filter(pk=email.pk).exclude(recipient="")
        unredacted.update(refusal=refusal[:500])  # it quotes the address
        raise PermanentFailure(f"The mail server refuses it: {refusal}") from error


@transaction.atomic
def forget_recipient(*, subject: str, waits: bool) -> None:
    """Blank address and text of all e-mails to a customer. The times of sending are kept.

    An e-mail that waits for another attempt, or for a person, is blanked and is not sent any more.

    Args:
        subject: "user:7".
        waits: raise while a worker has one of the e-mails, or is about to; otherwise blank it.

    Raises:
        StillUnderWay: a worker has one of the e-mails; nothing is blanked.
    """
    emails = Email.objects.filter(order_id__in=orders.order_ids_of(subject))
    unsent = {email.order_id for email in emails.select_for_update() if email.is_under_way}
    if waits:
        _refuse_to_erase(subject, unsent)
    emails.update(recipient="", mailbox="", subject="", text="", html="", refusal="")


def _refuse_to_erase(subject: str, unsent: Iterable[UUID]) -> None:
    """Raise `StillUnderWay` if a worker has an unsent e-mail of one of these orders."""
    held_up_by = next((one for one in sorted(unsent) if _is_in_hand(one)), None)
    if held_up_by is None:
        return
    text = _(
        "The erasure of %(subject)s waits: an e-mail of order %(order)s is not sent yet. It is "
        "tried again every %(seconds)d s; at attempt %(last)d it erases the e-mail, sent or not. "
        "If it does not end, `manage.py outbox why %(subject)s` shows what holds up the erasure, "
        "and `manage.py outbox why %(order)s` what holds up the e-mail."
    )
    facts = {"seconds": ERASURE_RETRY_SECONDS, "last": LAST_ERASURE_ATTEMPT}
    raise StillUnderWay(text % {"subject": subject, "order": held_up_by, **facts})


def _is_in_hand(order_id: UUID) -> bool:
    return is_owed(key=str(order_id), to=["notifications"], failed=False)


def _final_refusal(error: smtplib.SMTPException) -> str:
    """What the server said, if it refuses the recipient or the e-mail for good (RFC 5321, 4.2.1).

    A sender or a password that it refuses is a fault of our settings: mended, it will be sent.
    """
    answers: list[tuple[int, bytes | str]] = []
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        answers += error.recipients.values()
    elif isinstance(error, smtplib.SMTPDataError):
        answers.append((error.smtp_code, error.smtp_error))
    final = [f"{code} {force_str(text, errors='replace')}" for code, text in answers if code >= 500]
    return printable("; ".join(final))


def _message(email: Email) -> EmailMultiAlternatives:
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
    return message


@transaction.atomic
def mark_as_sent(email: Email) -> None:
    Email.objects.filter(pk=email.pk, sent_at=None).update(
        sent_at=timezone.now(), refusal="", suppressed_because=""
    )


def _log_suppression(email: Email) -> None:
    logger.log(
        logging.ERROR if email.is_essential else logging.WARNING,
        "The e-mail %s (%s) of order %s is suppressed: %s",
        email.pk,
        email.kind,
        email.order_id,
        limits.explain(email),
    )


def _draft(
    order_id: UUID, kind: Email.Kind, facts: Mapping[str, Any], contact: orders.Contact
) -> dict[str, Any]:
    rendered = render(
        kind=kind,
        language=contact.language,
        reference=contact.reference,
        context={"name": printable(contact.name), "order": orders.summary(order_id), **facts},
    )
    row = Email(order_id=order_id)
    return {
        "id": row.id,
        "message_id": f"<{row.id}@{sender_domain()}>",
        "recipient": contact.email,
        "mailbox": limits.mailbox_of(contact.email),
        "suppressed_because": limits.reason_to_suppress(recipient=contact.email, kind=kind) or "",
        "language": contact.language,
        "subject": rendered.subject,
        "text": rendered.text,
        "html": rendered.html,
    }
