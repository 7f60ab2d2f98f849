"""Addresses, texts and time limits for e-mails of any app."""

from __future__ import annotations

import logging
import re
import smtplib
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.core.validators import EmailValidator
from django.utils.deconstruct import deconstructible
from django.utils.translation import gettext_lazy as _

logger = logging.getLogger(__name__)

# In seconds. A session with a mail server has at most 14 steps, from connecting to two addresses to
# QUIT; each may take the whole time-out.
LEASE = 15 * settings.EMAIL_TIMEOUT

# Controls except tab and line feed, line separators, and marks of the direction of text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

LONGEST_ADDRESS = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets
_LONGEST_LOCAL_PART = 64
#: Names that no mail server of the internet has (RFC 6761, 6762, 7686, 8375, and ICANN).
_NOT_ON_THE_INTERNET = ("arpa", "internal", "invalid", "local", "localhost", "onion")


@deconstructible
class MailboxValidator(EmailValidator):
    """Refuses an address that no mailbox on the internet can have.

    RFC 5321 also allows quoted names, which may contain control characters, and IP addresses as
    hosts. Django's own validator accepts these, and `localhost`.
    """

    message = _("Give an e-mail address such as name@example.com.")
    domain_allowlist = []

    def __call__(self, value: Any) -> None:
        """Raise ValidationError, with the code "invalid", for such an address."""
        local_part, _at, domain = str(value).rpartition("@")
        if (
            len(value) > LONGEST_ADDRESS
            or len(local_part) > _LONGEST_LOCAL_PART
            or not local_part.isascii()
            or '"' in local_part
            or not domain.isprintable()
            or domain.lower().rpartition(".")[2] in _NOT_ON_THE_INTERNET
        ):
            raise ValidationError(self.message, code=self.code, params={"value": value})
        super().__call__(value)

    def validate_domain_part(self, domain_part: str) -> bool:
        """Return whether it is a name that DNS can have; an address in brackets is not."""
        try:
            domain_part.encode("idna")
        except UnicodeError:
            return False
        return bool(self.domain_regex.match(domain_part))


def is_sendable(address: str) -> bool:
    """Return whether an e-mail to this address may be passed to the mail server."""
    try:
        MailboxValidator()(address)
    except ValidationError:
        return False
    return True


def send_to_account(message: EmailMessage, *, user_id: int) -> None:
    """Send an e-mail to an account. Log a permanent refusal of its address: no repetition helps.

    Args:
        user_id: of the account. The log names it, and not its address.

    Raises:
        OSError: the server is unreachable, or refuses for now (SMTPException is an OSError).
    """
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused as refusal:
        if any(code < 500 for code, _text in refusal.recipients.values()):
            raise
        logger.warning(
            "The mail server refuses the address of the account user:%s, so the account gets no "
            "e-mail. Correct the address in the admin.",
            user_id,
        )


def printable(text: str) -> str:
    """Replace control characters, which a terminal or a mail program would execute."""
    return _CONTROL.sub("\ufffd", text)


def sender_domain() -> str:
    """Return the domain of our e-mails' Message-IDs."""
    return parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2] or "localhost"


def mailbox_of(recipient: str) -> str:
    """Return the mailbox of an address: `name@example.com` for `Name+tag@Example.com`."""
    local_part, _at, domain = recipient.lower().rpartition("@")
    return f"{local_part.partition('+')[0]}@{domain}"
