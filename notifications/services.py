"""Services of notifications: write an e-mail once, send it, and record the time of sending.

A resend sends the same text under the same Message-ID. A suppressed e-mail is written too, with the
reason; it is sent only on request of staff.
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
from shared.mail import is_sendable, mailbox_of, printable, sender_domain

logger = logging.getLogger(__name__)

#: The attempt at which an erasure stops waiting for e-mails in flight; seconds between attempts.
LAST_ERASURE_ATTEMPT = 5
ERASURE_RETRY_SECONDS = 60


def notify(
    *, order_id: UUID, kind: Email.Kind, receipt: Receipt, about: str = "", **facts: Any
) -> None:
    """Write an e-mail, send it unless it is suppressed, and record that.

    No lock is held and no transaction is open during the sending.
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


class EmailNotSentYet(Exception):
    """An e-mail is not sent yet, and may be sent at any time."""


class RecipientForgotten(Exception):
    """The customer was forgotten: the e-mail has no recipient and no text any more."""


class AddressNotSendable(Exception):
    """The recipient is not an address on the internet, so no e-mail can be sent to it."""


class MailServerUnreachable(ConnectionError):
    """There is no way to the mail server: no address, no route, or no TLS."""


@transaction.atomic
def request_resend(*, email_id: UUID, by: str) -> Resend:
    """Request that an e-mail be sent once more.

    Raises:
        EmailNotSentYet: it was neither sent nor refused yet.
        RecipientForgotten: it was blanked.
        AddressNotSendable: its recipient is not an address on the internet.
    """
    email = Email.objects.select_for_update().get(pk=email_id)
    _require_resendable(email)
    resend = email.resends.create(requested_by=by)
    emit(ResendRequested(order_id=email.order_id, resend_id=resend.id))
    return resend


def _require_resendable(email: Email) -> None:
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
            "shows the reason. A dead delivery has to be retried."
        )
        raise EmailNotSentYet(text % facts)
    if not is_sendable(email.recipient):
        text = _(
            "The e-mail (%(kind)s) of order %(order)s cannot be sent: its recipient is not an "
            "address on the internet. Ask the customer for another address, and send the text by "
            "hand."
        )
        raise AddressNotSendable(text % facts)


def resend(*, resend_id: UUID, receipt: Receipt) -> None:
    """Send an e-mail for which staff requested a resend, and record that or the refusal."""
    wanted = Resend.objects.select_related("email").get(pk=resend_id)
    if wanted.email.is_redacted:
        with receipt:
            return
    if wanted.sent_at is None:
        send_email(wanted.email, resend=wanted)
    with receipt:
        mark_as_sent(wanted.email)
        unsent = Resend.objects.filter(pk=wanted.pk, sent_at=None)
        unsent.update(sent_at=timezone.now(), refusal="")


def write_email(
    *, order_id: UUID, kind: Email.Kind, facts: Mapping[str, Any], about: str = ""
) -> Email | None:
    """Store the e-mail of this kind for the order. Keep an existing one unchanged.

    Returns:
        None if there is none and the customer was forgotten, so that there is no address.
    """
    written = Email.objects.filter(order_id=order_id, kind=kind, about=about).first()
    if written:
        return written
    with transaction.atomic():
        # The lock keeps an erasure from running between this read and the insert of the e-mail.
        contact = orders.contact(order_id, lock=True)
        if not contact.email:
            return None
        draft = _draft(order_id, kind, facts, contact)
        email, _ = Email.objects.get_or_create(
            order_id=order_id, kind=kind, about=about, defaults=draft
        )
    return email


def send_email(email: Email, *, resend: Resend | None = None) -> None:
    """Pass the e-mail to the mail server, under the same Message-ID each time.

    Raises:
        PermanentFailure: the server refuses this e-mail permanently, and the refusal is stored,
            also with the resend; or its address is not on the internet.
        ConnectionError, TimeoutError: there is no connection to the server, or it broke.
        SMTPException: the server refuses for now, or does not speak SMTP.
    """
    if not is_sendable(email.recipient):
        raise PermanentFailure("The recipient is not an address on the internet.")
    try:
        _message(email).send()
    except smtplib.SMTPException as error:
        refusal = _final_refusal(error)
        if not refusal:
            raise
        _store_refusal(email, resend, refusal[:500])
        raise PermanentFailure(f"The mail server refuses it: {refusal}") from error
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        text = f"The mail server cannot be reached ({error}). Check EMAIL_URL and the network."
        raise MailServerUnreachable(text) from error


@transaction.atomic
def _store_refusal(email: Email, resend: Resend | None, refusal: str) -> None:
    """Store the refusal, which may quote the address, unless the e-mail was blanked meanwhile."""
    if Email.objects.select_for_update().get(pk=email.pk).is_redacted:
        return
    Email.objects.filter(pk=email.pk, sent_at=None).update(refusal=refusal)
    if resend is not None:
        Resend.objects.filter(pk=resend.pk, sent_at=None).update(refusal=refusal)


@transaction.atomic
def forget_recipient(*, subject: str, waits: bool) -> None:
    """Blank address and text of the e-mails to a forgotten customer. Keep the times of sending.

    An e-mail or a resend whose delivery waits for another attempt, or is dead, is blanked and no
    longer sent. E-mails of an order that has an address stay: it was placed after the erasure of
    the others.

    Args:
        subject: "user:7".
        waits: raise while a worker has, or is about to have, one of the e-mails.

    Raises:
        EmailNotSentYet: a worker has one of the e-mails; nothing is blanked.
    """
    forgotten = orders.forgotten(orders.order_ids_of(subject))
    emails = Email.objects.filter(order_id__in=forgotten)
    unsent = {email.order_id for email in emails.select_for_update() if email.is_under_way}
    resends = Resend.objects.filter(email__order_id__in=forgotten)
    unsent.update(resends.filter(sent_at=None).values_list("email__order_id", flat=True))
    if waits:
        _require_no_unsent(subject, unsent)
    resends.update(refusal="")
    emails.update(recipient="", mailbox="", subject="", text="", html="", refusal="")


def _require_no_unsent(subject: str, unsent: Iterable[UUID]) -> None:
    """Raise `EmailNotSentYet` if a worker has an unsent e-mail of one of these orders."""
    order_id = next((one for one in sorted(unsent) if _is_in_flight(one)), None)
    if order_id is None:
        return
    text = _(
        "The erasure of %(subject)s waits: an e-mail of order %(order)s is not sent yet. It is "
        "retried every %(seconds)d s. Attempt %(last)d erases the e-mail, sent or not. If the "
        "wait does not end, `manage.py outbox why %(subject)s` shows the reason for the erasure, "
        "and `manage.py outbox why %(order)s` for the e-mail."
    )
    facts = {"seconds": ERASURE_RETRY_SECONDS, "last": LAST_ERASURE_ATTEMPT}
    raise EmailNotSentYet(text % {"subject": subject, "order": order_id, **facts})


def _is_in_flight(order_id: UUID) -> bool:
    return is_owed(key=str(order_id), to=["notifications"], failed=False)


def _final_refusal(error: smtplib.SMTPException) -> str:
    """Return the server's permanent refusal of the recipient or e-mail (RFC 5321, 4.2.1), or "".

    A refused sender or password is a fault of our settings. Once it is fixed, the e-mail is sent.
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
        "mailbox": mailbox_of(contact.email),
        "suppressed_because": limits.reason_to_suppress(recipient=contact.email, kind=kind) or "",
        "language": contact.language,
        "subject": rendered.subject,
        "text": rendered.text,
        "html": rendered.html,
    }
