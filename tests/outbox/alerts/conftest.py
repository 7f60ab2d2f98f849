from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from outbox import clock
from tests.outbox.sinks.receiver import Receiver, receiving
from tests.servers.smtp import MailServer, mail_server


@pytest.fixture
def mails(settings: Settings) -> Iterator[MailServer]:
    """A mail server that Django's settings name."""
    with mail_server() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        yield server


@pytest.fixture
def hook() -> Iterator[Receiver]:
    """A receiver of webhooks and pings."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def _time() -> Iterator[None]:
    """Use the host's clock, which `time_machine` moves."""
    with clock.host_time():
        yield
