"""Limits on e-mails to one recipient, and the records of suppressed e-mails."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.mail import EmailMultiAlternatives
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from notifications import services
from notifications.models import Email
from orders import services as orders
from orders.models import Order
from outbox.models import Delivery
from outbox.reconciliation.examination import reconcile
from outbox.testing import Outbox
from tests.bank import BankProcess, bank, bank_process
from tests.inventory.factories import put_on_sale
from tests.notifications.mail_server import MailServer, mail_server
from tests.orders.factories import customer

__all__ = ["bank", "bank_process", "mail_server"]

pytestmark = pytest.mark.django_db

LIMIT = 3
VICTIM = "victim@example.com"
Sent = list[EmailMultiAlternatives]


@pytest.fixture(autouse=True)
def limits(settings: Settings) -> Settings:
    settings.EMAIL_LIMIT = LIMIT
    settings.EMAIL_LIMIT_ESSENTIAL = LIMIT
    settings.EMAIL_LIMIT_SPAN = timedelta(hours=24)
    put_on_sale(units=100)
    return settings


def order(email: str = VICTIM, *, by: str = "mallory") -> Order:
    return orders.place_order(
        customer=customer(by),
        lines=[orders.WantedLine(sku="TEA", quantity=1)],
        payment_method="tok_success",
        email=email,
        language="en",
    )


def acknowledge(outbox: Outbox) -> None:
    outbox.deliver_all(only="notifications")


def cancel(outbox: Outbox, number: int) -> None:
    for _ in range(number):
        outbox.given("orders.OrderCancelled", order_id=order().pk, reason="customer")
    acknowledge(outbox)


def suppressions(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "is suppressed" in record.msg]


def states() -> list[str]:
    return list(Email.objects.order_by("pk").values_list("suppressed_because", flat=True))


class TestARecipient:
    def test_gets_no_more_emails_than_the_limit(self, outbox: Outbox, mailoutbox: Sent):
        for _ in range(LIMIT + 2):
            order()

        acknowledge(outbox)

        assert len(mailoutbox) == LIMIT
        assert states() == [""] * LIMIT + ["limit"] * 2
        assert not Delivery.objects.exclude(state="done").filter(
            subscription__handler__startswith="notifications"
        )

    def test_is_counted_without_case_and_tag(self, outbox: Outbox, mailoutbox: Sent):
        for address in ("victim@example.com", "Victim@Example.COM", "victim+1@example.com"):
            order(address)
        acknowledge(outbox)

        order("VICTIM+more+2@example.com")
        acknowledge(outbox)

        assert len(mailoutbox) == LIMIT
        assert states()[-1] == "limit"

    def test_is_limited_across_customers(self, outbox: Outbox, mailoutbox: Sent):
        for number in range(LIMIT + 1):
            order(by=f"mallory{number}")

        acknowledge(outbox)

        assert len(mailoutbox) == LIMIT

    def test_does_not_use_the_limit_of_another(self, outbox: Outbox, mailoutbox: Sent):
        for _ in range(LIMIT + 1):
            order()
        acknowledge(outbox)

        order("victim@example.org")
        acknowledge(outbox)

        assert mailoutbox[-1].to == ["victim@example.org"]

    def test_gets_emails_again_after_the_period(self, outbox: Outbox, mailoutbox: Sent):
        """Also where what was suppressed meanwhile would have filled the limit again."""
        for _ in range(2 * LIMIT):
            order()
        acknowledge(outbox)

        with later(hours=25):
            order()
            acknowledge(outbox)

        assert len(mailoutbox) == LIMIT + 1

    def test_is_not_counted_for_suppressed_emails(self, outbox: Outbox, mailoutbox: Sent):
        for _ in range(2 * LIMIT):
            order()
        acknowledge(outbox)

        with later(hours=23):
            order()
            acknowledge(outbox)
        with later(hours=25):
            order()
            acknowledge(outbox)

        assert states() == [""] * LIMIT + ["limit"] * (LIMIT + 1) + [""]

    def test_is_not_limited_by_0(self, outbox: Outbox, mailoutbox: Sent, limits: Settings):
        limits.EMAIL_LIMIT = 0
        for _ in range(LIMIT + 2):
            order()

        acknowledge(outbox)

        assert len(mailoutbox) == LIMIT + 2


class TestAnEssentialEmail:
    def test_is_sent_although_the_other_limit_is_reached(self, outbox: Outbox, mailoutbox: Sent):
        for _ in range(LIMIT):
            order()
        acknowledge(outbox)

        cancel(outbox, 1)

        assert "is cancelled" in mailoutbox[-1].subject

    def test_has_its_own_limit(self, outbox: Outbox, mailoutbox: Sent):
        cancel(outbox, LIMIT + 1)

        cancelled = [one for one in mailoutbox if "is cancelled" in one.subject]
        assert len(cancelled) == LIMIT

    def test_is_a_difference_if_it_is_suppressed(self, outbox: Outbox, bank: BankProcess):
        for _ in range(LIMIT + 1):
            mine = order()
            orders.cancel_order(order_id=mine.pk, by="mallory")
        outbox.deliver_all()

        suppressed = Email.objects.get(suppressed_because="limit", kind="cancellation")

        found = [one for finding in reconcile().findings for one in finding.kept]
        assert [one.key for one in found] == [str(suppressed.order_id)]
        assert "too many e-mails to this recipient" in found[0].text


class TestASuppressedEmail:
    @pytest.fixture
    def email(self, outbox: Outbox) -> Email:
        for _ in range(LIMIT + 1):
            order()
        acknowledge(outbox)
        return Email.objects.get(suppressed_because="limit")

    def test_is_stored_with_its_text(self, email: Email):
        assert email.recipient == VICTIM
        assert email.subject
        assert "Thank you for shopping with us." in email.text
        assert (email.sent_at, email.is_under_way) == (None, False)

    def test_is_no_difference_in_the_reconciliation(
        self, outbox: Outbox, bank: BankProcess, email: Email
    ):
        outbox.deliver_all()

        assert reconcile().is_balanced

    def test_is_found_in_the_admin_by_its_reason(self, admin_client: Client, email: Email):
        url = "/admin/notifications/email/"

        page = admin_client.get(f"{url}?suppressed_because__exact=limit").content.decode()
        detail = admin_client.get(f"{url}{email.pk}/change/").content.decode()

        assert str(email.pk) in page
        assert page.count(f"{url}01") == 1
        assert "too many e-mails to this recipient" in detail

    def test_logs_a_warning_with_setting_and_next_step(
        self, outbox: Outbox, caplog: pytest.LogCaptureFixture
    ):
        """Failed: the log had the code of the reason ("limit")."""
        for _ in range(LIMIT + 1):
            order()
        acknowledge(outbox)

        [line] = suppressions(caplog)
        suppressed = Email.objects.get(suppressed_because="limit")
        assert line.levelname == "WARNING"
        assert line.getMessage() == (
            f"The e-mail {suppressed.pk} (acknowledgement) of order {suppressed.order_id} is "
            "suppressed: the recipient got 3 e-mails within 24 hours, the limit set by "
            "EMAIL_LIMIT. To send it, choose 'Send again' in the admin. If the limit is too low, "
            "raise EMAIL_LIMIT or lower EMAIL_LIMIT_HOURS."
        )

    def test_logs_an_error_if_it_is_essential(
        self, outbox: Outbox, caplog: pytest.LogCaptureFixture
    ):
        """Failed: it was a warning like any other."""
        cancel(outbox, LIMIT + 1)

        lines = {line.levelname: line.getMessage() for line in suppressions(caplog)}
        assert lines.keys() == {"ERROR", "WARNING"}, "the acknowledgements are warnings"
        assert "(cancellation)" in lines["ERROR"]
        assert "the limit set by EMAIL_LIMIT_ESSENTIAL" in lines["ERROR"]

    @pytest.mark.parametrize(
        ("event", "level"), [("orders.OrderCancelled", "ERROR"), ("orders.OrderPlaced", "WARNING")]
    )
    def test_logs_the_next_step_for_an_invalid_address(
        self, outbox: Outbox, caplog: pytest.LogCaptureFixture, event: str, level: str
    ):
        mine = order("a@localhost")
        if event == "orders.OrderCancelled":
            outbox.given(event, order_id=mine.pk, reason="customer")
        acknowledge(outbox)

        [line] = [one for one in suppressions(caplog) if one.levelname == level]
        assert "not an address on the internet" in line.getMessage()
        assert "Ask the customer for another address" in line.getMessage()
        assert "EMAIL_LIMIT" not in line.getMessage()
        assert "a@localhost" not in line.getMessage()

    def test_is_logged_without_its_address(self, outbox: Outbox, caplog: pytest.LogCaptureFixture):
        with caplog.at_level(logging.WARNING, logger="notifications"):
            for _ in range(LIMIT + 1):
                order()
            acknowledge(outbox)

        lines = [record.getMessage() for record in caplog.records if "suppressed" in record.msg]
        assert lines
        assert VICTIM not in "".join(lines)

    def test_is_sent_by_a_resend(self, outbox: Outbox, mailoutbox: Sent, email: Email):
        services.request_resend(email_id=email.pk, by="anna")
        acknowledge(outbox)

        email.refresh_from_db()
        assert mailoutbox[-1].extra_headers["Message-ID"] == email.message_id
        assert email.sent_at
        assert email.suppressed_because == ""

    def test_is_forgotten_with_the_customer(self, email: Email):
        Order.objects.update(email="")  # as `orders.forget_customer` does

        services.forget_recipient(subject=f"user:{customer('mallory').pk}", waits=True)

        email.refresh_from_db()
        assert (email.recipient, email.mailbox, email.text) == ("", "", "")
        assert email.suppressed_because == "limit"


class TestAnInvalidAddress:
    """Of an order that was placed before the API refused it."""

    @pytest.mark.parametrize("address", ['"\x1b[2J"@example.com', "a@localhost", "a@[127.0.0.1]"])
    def test_never_reaches_the_mail_server_or_the_log(
        self,
        outbox: Outbox,
        mail_server: MailServer,
        caplog: pytest.LogCaptureFixture,
        address: str,
    ):
        order(address)

        acknowledge(outbox)

        assert mail_server.asked == 0
        assert states() == ["address"]
        assert "\x1b" not in caplog.text
        assert address not in caplog.text

    def test_is_refused_for_a_resend(self, outbox: Outbox, mail_server: MailServer):
        """Requested in the release before; `TestResending` has one that is requested now."""
        order("a@localhost")
        acknowledge(outbox)
        email = Email.objects.get()
        resend = email.resends.create(requested_by="anna")

        outbox.given("notifications.ResendRequested", order_id=email.order_id, resend_id=resend.pk)
        outbox.deliver_all(only="notifications", raise_errors=False)

        assert mail_server.asked == 0
        assert "not an address on the internet" in Delivery.objects.get(state="dead").note

    def test_stores_no_control_character_of_the_mail_server(
        self, outbox: Outbox, mail_server: MailServer
    ):
        mail_server.to_the_recipient = "550 5.1.1 \x1b[2J no such mailbox"
        order()

        outbox.deliver_all(only="notifications", raise_errors=False)

        assert "no such mailbox" in Email.objects.get().refusal
        assert "\x1b" not in Email.objects.get().refusal
        assert "\x1b" not in Delivery.objects.get(state="dead").note


def later(**span: Any) -> Any:
    return time_machine.travel(timezone.now() + timedelta(**span), tick=True)
