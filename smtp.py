"""What an e-mail needs on its way to the mail server, whichever app writes it."""

from __future__ import annotations

from email.utils import parseaddr

from django.conf import settings

# In seconds. A talk with a mail server has 14 steps at most, from connecting by two addresses to
# QUIT; each may take the whole time-out.
LEASE = 15 * settings.EMAIL_TIMEOUT


def sender_domain() -> str:
    """The domain to which the Message-IDs of our e-mails belong."""
    return parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2] or "localhost"
