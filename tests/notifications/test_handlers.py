"""Handlers of notifications and their e-mails; each delivery runs twice."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives
from django.db import connection
from django.test import override_settings

from notifications.models import Email
from orders.models import Order
from orders.services import cancel_order
from outbox.models import Delivery
from outbox.testing import Outbox
from tests.inventory.factories import put_on_sale
from tests.orders.factories import customer, place

MONEY = {"amount": 12800, "currency": "JPY"}


@pytest.fixture
def order(db: None, outbox: Outbox) -> Order:
    put_on_sale(price=12800)
    return place()


SAID = {
    "payments.PaymentCaptured": ({"amount": MONEY}, "is paid", "your payment of ¥12,800"),
    "orders.OrderReadyToShip": ({}, "is ready to ship", "ready to ship"),
    "orders.OrderShipped": (
        {"carrier": "Kuroneko", "tracking_number": "4711"},
        "is on its way",
        "Carrier: Kuroneko\nTracking number: 4711",
    ),
    "orders.OrderCancelled": ({"reason": "out_of_stock"}, "is cancelled", "out of stock"),
    "payments.PaymentRefunded": ({"amount": MONEY}, "refunded", "refunded ¥12,800"),
}


class TestEachEvent:
    def test_orders_order_placed_is_acknowledged(
        self, outbox: Outbox, order: Order, mailoutbox: list[EmailMultiAlternatives]
    ):
        outbox.deliver_all(only="notifications", twice=True)

        message = mailoutbox[-1]
        assert message.subject == f"We have received your order {order.reference}"
        assert message.to == ["hanako@example.com"]
        assert "Tea: ¥12,800\nTotal: ¥12,800" in message.body

    @pytest.mark.parametrize(
        ("event", "fields", "subject", "text"),
        [(event, *facts) for event, facts in SAID.items()],
        ids=list(SAID),
    )
    def test_is_announced_in_text_and_html(
        self,
        outbox: Outbox,
        order: Order,
        mailoutbox: list[EmailMultiAlternatives],
        event: str,
        fields: dict[str, Any],
        subject: str,
        text: str,
    ):
        outbox.deliver_all(only="notifications.acknowledge_order")
        outbox.given(event, order_id=order.id, **fields)

        outbox.deliver_all(only="notifications", twice=True)

        message = mailoutbox[-1]
        [(html, kind)] = message.alternatives
        assert subject in message.subject
        assert text in message.body
        assert order.reference in message.body
        assert order.reference in str(html)
        assert kind == "text/html"

    def test_is_announced_in_the_customers_language(
        self, outbox: Outbox, db: None, mailoutbox: list[EmailMultiAlternatives]
    ):
        put_on_sale(price=12800)
        order = place(language="ja")

        outbox.deliver_all(only="notifications")

        [message] = mailoutbox
        assert message.subject == f"ご注文 {order.reference} を承りました"
        assert "hanako 様" in message.body
        assert "合計: ￥12,800" in message.body
        assert message.message()["Content-Language"] == "ja"

    def test_escapes_the_name(
        self, outbox: Outbox, db: None, mailoutbox: list[EmailMultiAlternatives]
    ):
        put_on_sale()
        customer(first_name="<b>O'Hara</b>")
        place()

        outbox.deliver_all(only="notifications")

        [message] = mailoutbox
        assert "Dear <b>O'Hara</b>," in message.body
        assert "<b>O" not in str(message.alternatives[0][0])


class TestACancellation:
    @pytest.mark.parametrize(
        ("reason", "language", "text"),
        [
            ("overdue", "en", "could not be completed in time"),
            ("overdue", "ja", "期限までに"),
            ("another", "en", "Your order is cancelled."),
        ],
    )
    def test_names_its_reason(
        self,
        outbox: Outbox,
        db: None,
        mailoutbox: list[EmailMultiAlternatives],
        reason: str,
        language: str,
        text: str,
    ):
        put_on_sale()
        order = place(language=language)
        outbox.given("orders.OrderCancelled", order_id=order.id, reason=reason)

        outbox.deliver_all(only="notifications")

        message = mailoutbox[-1]
        assert text in message.body
        assert text in str(message.alternatives[0][0])

    @pytest.mark.parametrize(
        ("canceller", "language", "text"),
        [
            ("hanako", "en", "We have cancelled your order at your request."),
            ("staff", "en", "Your order is cancelled."),
            ("hanako", "ja", "ご依頼により"),
            ("staff", "ja", "ご注文はキャンセルされました。"),
        ],
    )
    def test_names_only_a_request_by_the_customer_in_the_account(
        self,
        outbox: Outbox,
        db: None,
        mailoutbox: list[EmailMultiAlternatives],
        canceller: str,
        language: str,
        text: str,
    ):
        """Staff may act at the request of a customer, so the e-mail does not name them."""
        put_on_sale()
        order = place(language=language)
        cancel_order(order_id=order.id, by=f"user:{customer(canceller).pk}")

        outbox.deliver_all(only="notifications")

        message = mailoutbox[-1]
        assert text in message.body
        assert text in str(message.alternatives[0][0])


class TestOneEmail:
    def test_has_the_same_message_id_at_each_sending(
        self, outbox: Outbox, order: Order, mailoutbox: list[EmailMultiAlternatives]
    ):
        """The first worker dies after the mail server took it, so a second one sends it again."""
        outbox.deliver_all(only="notifications", twice=True)

        email = Email.objects.get()
        sent = [message.message()["Message-ID"] for message in mailoutbox]
        assert sent == [email.message_id] * 2
        assert email.message_id == f"<{email.id}@example.com>"
        assert email.sent_at

    def test_is_not_sent_again_for_a_second_event(
        self, outbox: Outbox, order: Order, mailoutbox: list[EmailMultiAlternatives]
    ):
        outbox.given("orders.OrderReadyToShip", order_id=order.id)
        outbox.given("orders.OrderReadyToShip", order_id=order.id)

        outbox.deliver_all(only="notifications.announce_ready_to_ship")

        assert len(mailoutbox) == 1
        assert Email.objects.count() == 1

    def test_waits_for_an_unreachable_mail_server(
        self, outbox: Outbox, order: Order, mailoutbox: list[EmailMultiAlternatives]
    ):
        away = {"EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend", "EMAIL_PORT": 1}
        with override_settings(EMAIL_HOST="127.0.0.1", **away):
            outbox.deliver_all(only="notifications", raise_errors=False)
        written = Email.objects.get()
        assert written.sent_at is None
        Delivery.objects.update(due_at=order.placed_at)

        outbox.deliver_all(only="notifications")

        [message] = mailoutbox
        assert message.message()["Message-ID"] == written.message_id
        assert Email.objects.get().sent_at


class Watching:
    """A mail server that looks whether a transaction is open while it is talked to."""

    saw: list[bool] = []

    def __init__(self, **_: Any) -> None: ...

    def send_messages(self, messages: list[Any]) -> int:
        self.saw.append(connection.in_atomic_block)
        return len(messages)


@pytest.mark.django_db(transaction=True)
class TestSending:
    def test_opens_no_transaction(self, settings: Any):
        """Rule 7. Seen to fail with `send_email` moved into `with receipt:`."""
        settings.EMAIL_BACKEND = "tests.notifications.test_handlers.Watching"
        Watching.saw.clear()
        outbox = Outbox()
        put_on_sale()
        place()

        outbox.deliver_all(only="notifications")

        assert Watching.saw == [False]
        assert Email.objects.get().sent_at
