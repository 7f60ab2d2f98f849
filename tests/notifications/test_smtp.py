"""One e-mail through a real mail server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from notifications.models import Email
from outbox.models import Delivery
from outbox.testing import Outbox
from tests.inventory.shelf import put_on_sale
from tests.orders.buyer import place


class MailServer:
    """Keeps what it takes; takes nothing while `is_full`."""

    def __init__(self) -> None:
        self.taken: list[EmailMessage] = []
        self.is_full = False

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.is_full:
            return "452 4.3.1 The disk is full"
        content = envelope.original_content or b""
        self.taken.append(message_from_bytes(content, EmailMessage, policy=policy.default))
        return "250 OK"


@pytest.fixture
def mail_server(settings: Any) -> Iterator[MailServer]:
    server = MailServer()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(server, hostname="127.0.0.1", port=port)
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    yield server
    controller.stop()


@pytest.mark.django_db
class TestARealMailServer:
    def test_gets_text_and_html_in_japanese(self, outbox: Outbox, mail_server: MailServer):
        put_on_sale()
        order = place(language="ja")

        outbox.deliver_all(only="notifications")

        [message] = mail_server.taken
        text, html = message.get_body(["plain"]), message.get_body(["html"])
        assert text
        assert html
        assert message["Subject"].strip() == f"ご注文 {order.reference} を承りました"
        assert message["To"] == "hanako@example.com"
        assert message["Message-ID"] == Email.objects.get().message_id
        assert "ご注文ありがとうございます" in text.get_content()
        assert '<html lang="ja">' in html.get_content()

    def test_that_refuses_gets_it_again_under_the_same_id(
        self, outbox: Outbox, mail_server: MailServer
    ):
        put_on_sale()
        place()
        mail_server.is_full = True
        [result] = outbox.deliver_all(only="notifications", raise_errors=False)
        assert "The disk is full" in str(result.error)
        written = Email.objects.get()
        mail_server.is_full = False

        Delivery.objects.update(due_at=written.written_at)
        outbox.deliver_all(only="notifications")

        [message] = mail_server.taken
        assert message["Message-ID"] == written.message_id
        assert Email.objects.get().sent_at
