from collections.abc import Sequence
from uuid import uuid4

from django.core.mail.backends.smtp import EmailBackend
from django.core.mail.message import EmailMessage

from tests.chaos.proving import crashes, sabotage


class Backend(EmailBackend):
    """Django's own, with the crash points before and after the mail server's answer."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        crashes.reach(crashes.BEFORE_CALL)
        if sabotage.is_chosen("other_message_ids"):
            for message in email_messages:
                message.extra_headers["Message-ID"] = f"<{uuid4()}@sabotage.example>"
        sent = super().send_messages(email_messages)
        crashes.reach(crashes.AFTER_CALL)
        return sent
