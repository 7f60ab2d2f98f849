"""Limits on e-mails to one recipient, and addresses that receive none."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from notifications.models import Email
from shared.mail import is_sendable, mailbox_of

Suppressed = Email.Suppressed


def reason_to_suppress(*, recipient: str, kind: Email.Kind) -> Suppressed | None:
    """Return why an e-mail that is about to be written must not be sent, or None.

    Essential e-mails have their own limit, which other e-mails do not use up. Workers that write to
    one recipient at the same time may exceed a limit by one e-mail each.
    """
    if not is_sendable(recipient):
        return Suppressed.ADDRESS
    is_essential = kind in Email.ESSENTIAL
    limit = settings.EMAIL_LIMIT_ESSENTIAL if is_essential else settings.EMAIL_LIMIT
    if limit and _count_recent(recipient, is_essential=is_essential, most=limit) >= limit:
        return Suppressed.LIMIT
    return None


def explain(email: Email) -> str:
    """Return the reason for a suppression and the remedy, for the log, without the address."""
    if email.suppressed_because == Suppressed.ADDRESS:
        return (
            "the recipient is not an address on the internet. Ask the customer for "
            "another address. 'Send again' in the admin would be refused."
        )
    setting = "EMAIL_LIMIT_ESSENTIAL" if email.is_essential else "EMAIL_LIMIT"
    limit, hours = getattr(settings, setting), settings.EMAIL_LIMIT_SPAN / timedelta(hours=1)
    return (
        f"the recipient got {limit} e-mails within {hours:g} hours, the limit set by {setting}. To "
        "send it, choose 'Send again' in the admin. If the limit is too low, raise "
        f"{setting} or lower EMAIL_LIMIT_HOURS."
    )


def _count_recent(recipient: str, *, is_essential: bool, most: int) -> int:
    emails = Email.objects.filter(
        mailbox=mailbox_of(recipient),
        written_at__gt=timezone.now() - settings.EMAIL_LIMIT_SPAN,
        suppressed_because="",
    )
    counted = (
        emails.filter(kind__in=Email.ESSENTIAL)
        if is_essential
        else emails.exclude(kind__in=Email.ESSENTIAL)
    )
    return counted.order_by()[:most].count()
