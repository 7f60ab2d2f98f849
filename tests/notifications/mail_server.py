"""Real mail servers for tests: one that stores e-mails, and failing ones."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from pytest_django import Settings

from tests.processes import CEILING


class MailServer:
    """Keeps what it takes. What it says to a recipient and to the data can be changed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.taken: list[EmailMessage] = []
        self.to_the_sender = "250 OK"
        self.to_the_recipient = "250 OK"
        self.to_the_data = "250 OK"
        self.hangs = self.drops = False
        self.asked = 0

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(3600)
        envelope.mail_from = address
        return self.to_the_sender

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.to_the_recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.to_the_recipient

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.drops:
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        if self.to_the_data.startswith("250") and not self.drops:
            content = envelope.original_content or b""
            self.taken.append(message_from_bytes(content, EmailMessage, policy=policy.default))
        return self.to_the_data


class Listening(Controller):
    """Serves a socket that is bound already: a port that is only free may be taken meanwhile."""

    def __init__(self, server: MailServer, bound: socket.socket) -> None:
        host, port = bound.getsockname()
        super().__init__(server, hostname=host, port=port, ready_timeout=CEILING)
        self._bound = bound

    def _create_server(self) -> Awaitable[asyncio.AbstractServer]:
        return self.loop.create_server(self._factory_invoker, sock=self._bound)


@pytest.fixture
def mail_server(settings: Settings) -> Iterator[MailServer]:
    server = MailServer(settings)
    controller = Listening(server, socket.create_server(("127.0.0.1", 0)))
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = controller.hostname, controller.port
    yield server
    controller.stop()
