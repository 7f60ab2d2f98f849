"""A customer asks to be forgotten."""

from __future__ import annotations

import pytest
from django.core.mail import EmailMultiAlternatives

from notifications import services as notifications
from notifications.models import Email
from orders import services
from orders.models import Order
from outbox.books.reconciliation import reconcile
from outbox.models import Delivery
from outbox.privacy.redaction import redact
from outbox.testing import Outbox
from tests.bank import BankProcess
from tests.flows.looks import owed
from tests.inventory.shelf import put_on_sale
from tests.orders.buyer import customer, place

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


def forget(order: Order, outbox: Outbox) -> None:
    redact(subject=f"user:{order.customer_id}", by="ann", reason="asked to")
    outbox.deliver_all(raise_errors=False)


class TestACustomerWhoIsForgotten:
    def test_is_in_no_order_and_no_email_any_more(self, outbox: Outbox, order: Order):
        receive(order)
        outbox.deliver_all()

        forget(order, outbox)

        assert owed() == 0
        assert Order.objects.get(pk=order.pk).email == ""
        kept = Email.objects.filter(order_id=order.pk).values_list("recipient", "text", "html")
        assert len(kept) == 4
        assert set(kept) == {("", "", "")}

    def test_leaves_the_books_as_they_are(self, outbox: Outbox, order: Order):
        receive(order)
        outbox.deliver_all()
        before = Order.objects.values("reference", "total_amount", "status").get(pk=order.pk)

        forget(order, outbox)

        after = Order.objects.values("reference", "total_amount", "status").get(pk=order.pk)
        assert after == before
        assert order.lines.count() == 1

    def test_takes_no_other_customer_along(self, outbox: Outbox, order: Order):
        receive(order)
        outbox.deliver_all()

        forget(order, outbox)

        other = Order.objects.exclude(pk=order.pk).get()
        assert other.email == "taro@example.com"
        assert not Email.objects.filter(order_id=other.pk, text="").exists()

    def test_keeps_the_address_while_an_order_is_under_way(self, outbox: Outbox, order: Order):
        """A person sees it as dead, and tries again later. Seen to fail without the question."""
        forget(order, outbox)

        assert Order.objects.get(pk=order.pk).email == "hanako@example.com"
        dead = Delivery.objects.get(state="dead")
        assert dead.subscription.handler == "orders.forget_customer"
        assert order.reference in dead.note

    def test_is_written_to_no_more(
        self, outbox: Outbox, order: Order, mailoutbox: list[EmailMultiAlternatives]
    ):
        """Seen to fail while the books missed the e-mail that nobody could be sent."""
        receive(order)
        outbox.deliver_all()
        forget(order, outbox)
        sent = len(mailoutbox)

        services.request_refund(order_id=order.id, return_stock=False, by="staff")
        outbox.deliver_all()

        assert (len(mailoutbox), owed()) == (sent, 0)
        assert reconcile().is_balanced

    def test_is_forgotten_again_although_an_email_was_refused(self, outbox: Outbox, order: Order):
        """Seen to fail while a blanked refusal counted as an e-mail that is still to be sent."""
        receive(order)
        outbox.deliver_all()
        refused = Email.objects.filter(order_id=order.pk, kind=Email.Kind.SHIPPING)
        refused.update(sent_at=None, refusal="550 5.1.1 No such mailbox")
        forget(order, outbox)

        notifications.forget_recipient(subject=f"user:{order.customer_id}")

        email = refused.get()
        assert (email.recipient, email.refusal, email.is_under_way) == ("", "", False)
