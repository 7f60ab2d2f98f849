"""A message through a real mail server, a real receiver of webhooks, and a function."""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import trustme
from django.core.mail.backends.base import BaseEmailBackend
from pytest_django import Settings

from outbox.alerts import AlertMessage
from outbox.alerts.channels import ChannelFailed, send
from outbox.alerts.messages import message_of_test, opened
from tests.closed_port import port_of_nobody
from tests.outbox.alerts.world import alerts
from tests.outbox.sinks.receiver import Receiver, answers, receiving
from tests.servers.smtp import MailServer

AT = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
KEPT: list[AlertMessage] = []


def keep(message: AlertMessage) -> None:
    KEPT.append(message)


def fail(message: AlertMessage) -> None:
    raise ValueError("the token is s3cret")


class Throttled(Exception):
    """The error of a backend that is not of smtplib."""


class BackendThatRaises(BaseEmailBackend):
    def send_messages(self, email_messages: Sequence[object]) -> int:
        raise Throttled("of a@example.com")


def backend_that_does_not_start(**_options: object) -> None:
    raise Throttled("s3cret")


def message(text: str = "parcels.label has 2 dead deliveries.", url: str = "") -> AlertMessage:
    return opened(id=7, trigger="dead", text=text, url=url, opened_at=AT, is_first=True)


def send_to(made: AlertMessage, **channel: Any) -> None:
    send(alerts(CHANNELS={"one": channel}).channels["one"], made)


class TestAnEmail:
    def test_reaches_each_address_with_text_and_link(self, mails: MailServer, settings: Settings):
        settings.EMAIL_SUBJECT_PREFIX = "[shop] "
        made = message("Two are dead.", "https://shop.example.com/admin/")

        send_to(made, EMAIL=["a@example.com", "b@example.com"], FROM="shop@example.com")

        [mail] = mails.taken
        assert mail["To"] == "a@example.com, b@example.com"
        assert mail["From"] == "shop@example.com"
        assert mail["Subject"] == "[shop] Two are dead."
        lines = mail.get_content().splitlines()
        assert lines == ["Two are dead.", "", "https://shop.example.com/admin/"]

    def test_has_one_line_in_its_subject(self, mails: MailServer):
        send_to(message("First line.\nBcc: all@example.com"), EMAIL=["a@example.com"])

        [mail] = mails.taken
        assert mail["Subject"].endswith("First line.")
        assert mail["Bcc"] is None

    def test_that_is_refused_is_a_failure_without_an_address(self, mails: MailServer):
        mails.refusal = "550 a@example.com is unknown"

        with pytest.raises(ChannelFailed) as caught:
            send_to(message(), EMAIL=["a@example.com"])

        assert str(caught.value) == "The mail server did not take it: SMTPRecipientsRefused."

    def test_fails_where_no_server_listens(self, mails: MailServer, settings: Settings):
        settings.EMAIL_PORT = port_of_nobody()

        with pytest.raises(ChannelFailed, match="ConnectionRefusedError Connection refused"):
            send_to(message(), EMAIL=["a@example.com"])

    @pytest.mark.parametrize("name", ["BackendThatRaises", "backend_that_does_not_start"])
    def test_fails_with_each_error_of_a_backend(self, settings: Settings, name: str):
        """Backends of other packages raise exceptions that are no SMTPException."""
        settings.EMAIL_BACKEND = f"{__name__}.{name}"

        with pytest.raises(ChannelFailed) as caught:
            send_to(message(), EMAIL=["a@example.com"])

        assert str(caught.value) == "The mail server did not take it: Throttled."

    def test_fails_if_the_server_hangs(self, mails: MailServer):
        mails.hangs = True

        with pytest.raises(ChannelFailed, match="The mail server did not take it"):
            send_to(message(), EMAIL=["a@example.com"], TIMEOUT_SECONDS=0.2)


class TestAWebhook:
    def test_gets_json_as_slack_reads_it(self, hook: Receiver):
        send_to(message("Two are dead.", "https://shop.example.com/admin/"), WEBHOOK=hook.url)

        [request] = hook.requests
        assert request.headers["content-type"] == "application/json; charset=utf-8"
        assert json.loads(request.body) == {
            "text": "Two are dead.\nhttps://shop.example.com/admin/"
        }

    def test_gets_no_mention_or_hidden_link_from_a_text(self, hook: Receiver):
        """Slack notifies all members of a channel for <!channel>."""
        send_to(message("KeyError: <!channel> <https://evil.example|ok> &"), WEBHOOK=hook.url)

        [request] = hook.requests
        assert json.loads(request.body)["text"] == (
            "KeyError: &lt;!channel&gt; &lt;https://evil.example|ok&gt; &amp;"
        )

    def test_keeps_the_query_of_its_url(self, hook: Receiver):
        send_to(message(), WEBHOOK=f"{hook.url}?token=7")

        assert hook.requests[0].path == "/events?token=7"

    def test_is_not_led_to_another_address(self, hook: Receiver):
        hook.behaviour = answers(307, Location=hook.url)

        with pytest.raises(ChannelFailed, match=r"127\.0\.0\.1 answered 307\."):
            send_to(message(), WEBHOOK=f"{hook.url}/s3cret")

        assert len(hook.requests) == 1

    @pytest.mark.parametrize("behaviour", ["hang", "drip", "drop"])
    def test_that_does_not_answer_in_time_is_a_failure(self, hook: Receiver, behaviour: str):
        hook.behaviour = getattr(hook, behaviour)

        with pytest.raises(ChannelFailed) as caught:
            send_to(message(), WEBHOOK=f"{hook.url}/s3cret", TIMEOUT_SECONDS=0.3)

        assert "s3cret" not in str(caught.value)

    def test_that_floods_its_answer_has_taken_the_message(self, hook: Receiver):
        hook.behaviour = hook.flood

        send_to(message(), WEBHOOK=hook.url)

    def test_with_an_unknown_certificate_is_a_failure(self):
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)

        with receiving(context) as hook, pytest.raises(ChannelFailed, match="TLS failed"):
            send_to(message(), WEBHOOK=hook.url)

    def test_fails_where_nobody_listens(self):
        with pytest.raises(ChannelFailed, match="Connection refused"):
            send_to(message(), WEBHOOK=f"http://127.0.0.1:{port_of_nobody()}/")


class TestAFunction:
    def test_gets_the_message(self):
        KEPT.clear()

        send_to(message(), CALL=f"{__name__}.keep")

        [kept] = KEPT
        assert (kept.id, kept.kind, kept.trigger) == (7, "opened", "dead")

    def test_that_raises_is_a_failure_without_its_text(self):
        with pytest.raises(ChannelFailed) as caught:
            send_to(message_of_test(channel="one", url=""), CALL=f"{__name__}.fail")

        assert str(caught.value) == f"{__name__}.fail raised ValueError."
