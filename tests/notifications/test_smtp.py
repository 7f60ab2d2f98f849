"""E-mails through a real mail server that hangs, refuses or drops the connection."""

from __future__ import annotations

from collections.abc import Callable
from errno import EHOSTUNREACH
from smtplib import SMTPDataError, SMTPRecipientsRefused, SMTPServerDisconnected
from socket import gaierror
from ssl import SSLCertVerificationError

import pytest
from django.conf import settings
from django.core.mail import EmailMultiAlternatives

from notifications import services
from notifications.handlers import AWAY
from notifications.models import Email
from orders.models import Order
from outbox.models import Delivery
from outbox.operations import Choice, retry
from outbox.subscriptions import registry
from outbox.testing import Outbox
from tests.inventory.factories import put_on_sale
from tests.notifications.mail_server import MailServer, mail_server
from tests.orders.factories import place

__all__ = ["mail_server"]

Trouble = Callable[[MailServer], None]


@pytest.fixture
def order(outbox: Outbox) -> Order:
    put_on_sale()
    return place()


def hang(server: MailServer) -> None:
    server.settings.EMAIL_TIMEOUT = 0.3
    server.hangs = True


def drop(server: MailServer) -> None:
    server.drops = True


def say(to: str, answer: str) -> Trouble:
    return lambda server: setattr(server, to, answer)


TROUBLES = {
    "hangs": hang,
    "drops in mid-data": drop,
    "is full": say("to_the_data", "452 4.3.1 The disk is full"),
    "puts the recipient off": say("to_the_recipient", "450 4.2.0 Greylisted"),
    "puts the sender off": say("to_the_sender", "421 4.3.2 Closing down"),
    "refuses the sender": say("to_the_sender", "550 5.7.1 Who are you?"),  # our settings are wrong
}


def make_well(server: MailServer) -> None:
    server.to_the_sender = server.to_the_recipient = server.to_the_data = "250 OK"
    server.hangs = server.drops = False
    server.settings.EMAIL_TIMEOUT = 10


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

    @pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
    def test_gets_it_again_under_the_same_id_after_recovery(
        self, outbox: Outbox, mail_server: MailServer, order: Order, trouble: Trouble
    ):
        trouble(mail_server)
        [result] = outbox.deliver_all(only="notifications", raise_errors=False)
        assert isinstance(result.error, OSError)
        written = Email.objects.get()
        assert (written.sent_at, written.refusal) == (None, "")
        make_well(mail_server)

        Delivery.objects.update(due_at=written.written_at)
        outbox.deliver_all(only="notifications")

        [message] = mail_server.taken
        assert message["Message-ID"] == written.message_id
        assert Email.objects.get().sent_at

    def test_that_hangs_times_out_before_the_lease(self):
        """Whichever app writes to it. Seen to fail while webhooks had the lease of all others."""
        leases = {
            handler.name: handler.lease
            for handler in registry
            if handler.queue == "notifications.smtp" and not handler.atomic
        }

        assert {"notifications.acknowledge_order", "webhooks.announce_disabling"} <= leases.keys()
        assert set(leases.values()) == {15 * settings.EMAIL_TIMEOUT}
        assert 0 < settings.EMAIL_TIMEOUT <= 10


class TestTheBreaker:
    """Seen to fail with OSError in AWAY, which every SMTPException is."""

    @pytest.mark.parametrize("error", [SMTPRecipientsRefused({}), SMTPDataError(550, b"")])
    def test_is_not_opened_by_the_refusal_of_one_email(self, error: Exception):
        assert not isinstance(error, AWAY)

    @pytest.mark.parametrize(
        "error",
        [
            ConnectionRefusedError(),
            SMTPServerDisconnected(),
            TimeoutError(),
            gaierror(-2, "Name or service not known"),
            OSError(EHOSTUNREACH, "No route to host"),
            SSLCertVerificationError("certificate has expired"),
        ],
        ids=repr,
    )
    def test_is_opened_by_an_unreachable_server(
        self, error: Exception, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: a name that is not resolved, or a host without a route, did not open it."""

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(EmailMultiAlternatives, "send", fail)

        with pytest.raises(AWAY) as caught:
            services.send_email(Email(recipient="hanako@example.com", html="<p>"))

        assert str(error) in str(caught.value)


@pytest.mark.django_db
class TestAPermanentRefusal:
    """5xx to the recipient or to the data: forty-five attempts would change nothing."""

    @pytest.fixture(params=["to_the_recipient", "to_the_data"])
    def refusing(self, request: pytest.FixtureRequest, mail_server: MailServer) -> MailServer:
        setattr(mail_server, request.param, "550 5.1.1 No such mailbox")
        return mail_server

    def test_is_not_retried_and_records_its_reason(
        self, outbox: Outbox, order: Order, refusing: MailServer
    ):
        outbox.deliver_all(only="notifications", raise_errors=False)

        delivery = Delivery.objects.get(subscription__handler="notifications.acknowledge_order")
        assert (delivery.state, delivery.attempts, refusing.asked) == ("dead", 1, 1)
        assert "The mail server refuses it: 550 5.1.1 No such mailbox" in delivery.note
        email = Email.objects.get()
        assert (email.sent_at, email.refusal) == (None, "550 5.1.1 No such mailbox")

    def test_is_retried_on_request(self, outbox: Outbox, order: Order, refusing: MailServer):
        outbox.deliver_all(only="notifications", raise_errors=False)
        make_well(refusing)

        retry(Choice(states=("dead",)), by="anna")
        outbox.deliver_all(only="notifications")

        [message] = refusing.taken
        email = Email.objects.get()
        assert message["Message-ID"] == email.message_id
        assert email.sent_at
        assert email.refusal == ""
