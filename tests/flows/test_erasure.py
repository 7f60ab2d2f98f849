"""Erasure of a customer's personal data."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
import time_machine
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.utils import timezone

from notifications import services as notifications
from notifications.models import Email
from orders import erasure, services
from orders.models import Order
from outbox import operations
from outbox.formatting import format_time
from outbox.models import DelayedEvent, Delivery
from outbox.privacy.redaction import redact
from outbox.reconciliation.examination import reconcile
from outbox.testing import Outbox
from tests.bank import BankProcess
from tests.flows.state import owed
from tests.inventory.factories import put_on_sale
from tests.notifications.mail_server import MailServer, mail_server
from tests.orders.factories import customer, place
from tests.outbox.command import outbox_command
from tests.threads import in_thread, wait_until_blocked

__all__ = ["mail_server"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def order(outbox: Outbox, bank: BankProcess) -> Order:
    """Hanako's order, ready to ship; and another customer's."""
    put_on_sale("TEA", units=5)
    services.place_order(
        customer=customer("taro", email="taro@example.com"),
        lines=[services.WantedLine(sku="TEA", quantity=1)],
        payment_method="tok_success",
        email="taro@example.com",
        language="en",
    )
    ours = place()
    outbox.deliver_all()
    return ours


def receive(order: Order) -> None:
    services.ship_order(order_id=order.id, carrier="A", tracking_number="1", by="staff")
    services.receive_order(order_id=order.id, by="staff")


def fail_for(time: timedelta, outbox: Outbox) -> None:
    step = timedelta(hours=1)
    for _ in range(time // step):
        outbox.deliver_all(raise_errors=False)
        outbox.let_pass(step)


def forget(order: Order, outbox: Outbox) -> None:
    redact(subject=f"user:{order.customer_id}", by="ann", reason="asked to")
    outbox.deliver_all(raise_errors=False)


class TestAForgottenCustomer:
    def test_keeps_the_address_of_an_order_that_is_placed_meanwhile(
        self, outbox: Outbox, order: Order, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to blank all orders of the customer, also those that the lock did not reach."""
        receive(order)
        outbox.deliver_all()
        placed: list[Order] = []

        class Final(set[str]):
            """The final states. The first comparison is the moment of the new order."""

            def __contains__(self, status: object) -> bool:
                if not placed:
                    placed.append(place())
                return super().__contains__(status)

        monkeypatch.setattr(erasure, "FINAL", Final(erasure.FINAL))

        services.forget_customer(subject=f"user:{order.customer_id}")

        assert Order.objects.get(pk=order.pk).email == ""
        assert Order.objects.get(pk=placed[0].pk).email == "hanako@example.com"

    def test_keeps_the_emails_of_an_order_that_is_placed_before_they_are_blanked(
        self, outbox: Outbox, order: Order
    ):
        """Seen to blank them: they were never sent, and reconciliation missed them for ever."""
        receive(order)
        outbox.deliver_all()
        subject = f"user:{order.customer_id}"
        services.forget_customer(subject=subject)
        fresh = place()
        notifications.write_email(order_id=fresh.id, kind=Email.Kind.ACKNOWLEDGEMENT, facts={})

        notifications.forget_recipient(subject=subject, waits=False)
        outbox.deliver_all()

        assert owed() == 0
        blanked = Email.objects.filter(order_id=order.id)
        assert set(blanked.values_list("recipient")) == {("",)}
        fresh_ones = Email.objects.filter(order_id=fresh.id)
        assert set(fresh_ones.values_list("recipient")) == {(fresh.email,)}
        assert not fresh_ones.filter(sent_at=None).exists()
        assert reconcile().is_balanced

    def test_is_in_no_order_and_no_email(self, outbox: Outbox, order: Order):
        receive(order)
        outbox.deliver_all()

        forget(order, outbox)

        assert owed() == 0
        assert Order.objects.get(pk=order.pk).email == ""
        kept = Email.objects.filter(order_id=order.pk).values_list("recipient", "text", "html")
        assert len(kept) == 4
        assert set(kept) == {("", "", "")}

    def test_causes_no_reconciliation_difference(self, outbox: Outbox, order: Order):
        receive(order)
        outbox.deliver_all()
        before = Order.objects.values("reference", "total_amount", "status").get(pk=order.pk)

        forget(order, outbox)

        after = Order.objects.values("reference", "total_amount", "status").get(pk=order.pk)
        assert after == before
        assert order.lines.count() == 1

    def test_does_not_affect_other_customers(self, outbox: Outbox, order: Order):
        receive(order)
        outbox.deliver_all()

        forget(order, outbox)

        other = Order.objects.exclude(pk=order.pk).get()
        assert other.email == "taro@example.com"
        assert not Email.objects.filter(order_id=other.pk, text="").exists()

    def test_is_forgotten_once_the_last_order_is_final(self, outbox: Outbox, order: Order):
        """Failed: the delivery was dead, and nothing happened until a person retried it."""
        forget(order, outbox)

        assert Order.objects.get(pk=order.pk).email == "hanako@example.com"
        assert owed() == 0
        [postponed] = outbox.all_delayed("orders.ErasurePostponed")
        assert postponed.order_ids == [order.id]

        receive(order)
        outbox.deliver_all()
        outbox.let_pass(timedelta(hours=7))
        outbox.deliver_all()

        assert owed() == 0
        assert Order.objects.get(pk=order.pk).email == ""
        assert set(Email.objects.filter(order_id=order.pk).values_list("recipient")) == {("",)}

    def test_gets_no_more_emails(
        self,
        outbox: Outbox,
        order: Order,
        mailoutbox: list[EmailMultiAlternatives],
        caplog: pytest.LogCaptureFixture,
    ):
        """Seen to fail while the books missed the e-mail that nobody could be sent."""
        receive(order)
        outbox.deliver_all()
        forget(order, outbox)
        sent = len(mailoutbox)

        services.request_refund(order_id=order.id, return_stock=False, by="staff")
        with caplog.at_level(logging.INFO, logger="notifications"):
            outbox.deliver_all()

        assert (len(mailoutbox), owed()) == (sent, 0)
        said = f"No e-mail (refund) is sent for order {order.pk}: the customer was forgotten."
        assert said in caplog.text
        assert reconcile().is_balanced

    @pytest.mark.parametrize("state", ["dead", "discarded", "parked"])
    def test_is_forgotten_although_an_email_was_never_sent(
        self, outbox: Outbox, order: Order, mail_server: MailServer, state: str
    ):
        """Failed: the e-mail counted as under way for ever."""
        mail_server.to_the_sender = "550 5.7.1 Who are you?"
        receive(order)
        outbox.deliver_all(raise_errors=False)
        if state == "parked":
            operations.pause("notifications.announce_shipping", by="ann", reason="a wrong password")
        fail_for(timedelta(hours=120), outbox)  # 45 attempts
        if state == "discarded":
            operations.discard(operations.Choice(states=("dead",)), by="ann", reason="no mailbox")
        assert state in {*Delivery.objects.values_list("state", flat=True)}

        forget(order, outbox)
        emails = Email.objects.filter(order_id=order.pk)
        if state != "parked":
            assert set(emails.values_list("recipient")) == {("",)}, "at once"
        fail_for(timedelta(hours=10), outbox)

        assert set(emails.values_list("recipient")) == {("",)}
        if state == "parked":
            operations.resume("notifications.announce_shipping", by="ann")
        operations.retry(operations.Choice(states=("dead",)), by="ann")
        outbox.deliver_all()
        assert (owed(), mail_server.taken) == (0, [])

    def test_is_erased_after_a_running_email_delivery(self, outbox: Outbox, order: Order):
        receive(order)  # the e-mails about it are owed, and none is written
        Email.objects.filter(order_id=order.pk, kind=Email.Kind.PAYMENT).update(sent_at=None)
        subject = f"user:{order.customer_id}"
        services.forget_customer(subject=subject)

        with pytest.raises(notifications.EmailNotSentYet) as caught:
            notifications.forget_recipient(subject=subject, waits=True)

        assert f"The erasure of {subject} waits" in str(caught.value)
        assert f"an e-mail of order {order.pk}" in str(caught.value)
        for about in (subject, order.pk):
            assert f"`manage.py outbox why {about}`" in str(caught.value)
        notifications.forget_recipient(subject=subject, waits=False)
        assert set(Email.objects.filter(order_id=order.pk).values_list("recipient")) == {("",)}

    def test_is_erased_after_a_running_resend(self, outbox: Outbox, order: Order):
        """Failed: it was erased at once, and the mail server got the e-mail afterwards."""
        receive(order)
        outbox.deliver_all()
        subject = f"user:{order.customer_id}"
        services.forget_customer(subject=subject)
        email = Email.objects.filter(order_id=order.pk).latest("pk")
        notifications.request_resend(email_id=email.pk, by="anna")

        with pytest.raises(notifications.EmailNotSentYet) as caught:
            notifications.forget_recipient(subject=subject, waits=True)

        assert f"an e-mail of order {order.pk}" in str(caught.value)
        email.refresh_from_db()
        assert email.recipient == order.email
        outbox.deliver_all()
        assert set(Email.objects.filter(order_id=order.pk).values_list("recipient")) == {("",)}

    def test_is_forgotten_although_a_resend_was_refused(
        self, outbox: Outbox, order: Order, mail_server: MailServer
    ):
        receive(order)
        outbox.deliver_all()
        email = Email.objects.filter(order_id=order.pk).latest("pk")
        mail_server.to_the_recipient = "550 5.1.1 No such mailbox"
        notifications.request_resend(email_id=email.pk, by="anna")

        forget(order, outbox)

        assert Delivery.objects.get(state="dead").subscription.handler.endswith("resend_email")
        assert set(Email.objects.filter(order_id=order.pk).values_list("recipient")) == {("",)}

    def test_is_forgotten_again_although_an_email_was_refused(self, outbox: Outbox, order: Order):
        """Seen to fail while a blanked refusal counted as an e-mail that is still to be sent."""
        receive(order)
        outbox.deliver_all()
        refused = Email.objects.filter(order_id=order.pk, kind=Email.Kind.SHIPPING)
        refused.update(sent_at=None, refusal="550 5.1.1 No such mailbox")
        forget(order, outbox)

        notifications.forget_recipient(subject=f"user:{order.customer_id}", waits=True)

        email = refused.get()
        assert (email.recipient, email.refusal, email.is_under_way) == ("", "", False)


class TestAnErasureThatWaitsForAnOrder:
    def test_logs_the_order_and_the_next_attempt(
        self, outbox: Outbox, order: Order, caplog: pytest.LogCaptureFixture
    ):
        """Failed: nothing was logged."""
        subject = f"user:{order.customer_id}"

        with time_machine.travel(timezone.now(), tick=False), caplog.at_level(logging.WARNING):
            forget(order, outbox)

        [line] = [one for one in caplog.records if one.name == "orders.erasure"]
        assert line.levelname == "WARNING"
        text = line.getMessage()
        for part in (subject, str(order.id), format_time(DelayedEvent.objects.get().due_at)):
            assert part in text
        assert f"manage.py outbox why {subject}" in text
        assert order.email not in text

    def test_names_ten_orders_and_counts_the_rest(
        self, outbox: Outbox, order: Order, caplog: pytest.LogCaptureFixture
    ):
        put_on_sale("CUP", units=20)
        for _ in range(11):
            place(sku="CUP")

        with caplog.at_level(logging.WARNING):
            forget(order, outbox)

        [line] = [one for one in caplog.records if one.name == "orders.erasure"]
        named = [pk for pk in Order.objects.values_list("pk", flat=True) if str(pk) in line.message]
        assert len(named) == 10
        assert "and 2 more" in line.message

    def test_is_found_by_the_command_in_the_log(self, outbox: Outbox, order: Order):
        """Failed: the command showed nothing that waits."""
        subject = f"user:{order.customer_id}"
        said = outbox_command("redact", "--subject", subject, "--reason", "asked to")
        outbox.deliver_all(raise_errors=False)

        shown = outbox_command("why", subject)

        assert f"manage.py outbox why {subject}" in said
        [delayed] = DelayedEvent.objects.all()
        assert f"delayed event {delayed.pk}: orders.ErasurePostponed {subject}" in shown
        assert format_time(delayed.due_at) in shown

    def test_shows_owed_deliveries_of_its_orders(self, outbox: Outbox, order: Order):
        put_on_sale("CUP", units=1)
        fresh = place(sku="CUP")

        shown = outbox_command("why", f"user:{order.customer_id}")

        assert f"orders.OrderPlaced {fresh.id}" in shown
        assert str(order.id) not in shown, "nothing is owed about it"


class TestASubjectThatIsNoCustomer:
    @pytest.mark.parametrize(
        "subject", ["user:", "user:x", "user:²", f"user:{'9' * 30}", "parcel:7"]
    )
    def test_changes_nothing(self, outbox: Outbox, order: Order, subject: str):
        redact(subject=subject, by="ann", reason="a typing error")
        outbox.deliver_all()

        assert not Order.objects.filter(email="").exists()
        assert not Email.objects.filter(recipient="").exists()


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
class TestAConcurrentEmail:
    def test_is_blanked_too(self, outbox: Outbox, order: Order):
        """The order is locked until the e-mail is committed, so the forgetting finds it."""
        receive(order)
        subject = f"user:{order.customer_id}"
        with transaction.atomic():
            written = notifications.write_email(
                order_id=order.id, kind=Email.Kind.CANCELLATION, facts={"reason": "customer"}
            )
            forgotten = in_thread(lambda: services.forget_customer(subject=subject))
            wait_until_blocked(1)

        assert forgotten() is None
        notifications.forget_recipient(subject=subject, waits=False)
        assert written
        assert Email.objects.get(pk=written.pk).recipient == ""
        assert not notifications.write_email(
            order_id=order.id, kind=Email.Kind.REFUND, facts={"amount": None}
        )
