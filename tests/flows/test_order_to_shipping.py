"""A successful order from POST to receipt."""

from __future__ import annotations

import pytest
from django.core.mail import EmailMultiAlternatives

from notifications.models import Email
from orders import services
from orders.models import Order
from outbox import timeline_of
from outbox.models import Event
from outbox.testing import Outbox
from tests.bank import BankProcess
from tests.flows.state import emails, emitted, owed, status, statuses
from tests.inventory.factories import counters, ledger, put_on_sale
from tests.orders.factories import a_key, customer, place, signed_in

pytestmark = pytest.mark.django_db


def post_an_order() -> Order:
    wanted = {"payment_method": "tok_success", "lines": [{"sku": "TEA", "quantity": 2}]}
    client = signed_in(customer())
    answer = client.post("/api/orders/", wanted, format="json", headers=a_key())
    assert answer.status_code == 201, answer.content
    return Order.objects.get(pk=answer.json()["id"])


class TestASuccessfulOrder:
    def test_becomes_ready_to_ship_automatically(self, outbox: Outbox, bank: BankProcess):
        put_on_sale("TEA", units=5, price=6400)

        order = post_an_order()
        outbox.deliver_all()

        assert statuses(order) == ["placed", "confirmed", "ready_to_ship"]
        assert counters("TEA") == (5, 2)
        assert bank.charges(order.id) == {"authorizations": 1, "captures": 1}
        assert emails(order) == {"acknowledgement", "payment", "ready_to_ship"}
        assert owed() == 0

    def test_is_received_after_staff_ship_it(self, outbox: Outbox, bank: BankProcess):
        put_on_sale("TEA", units=5)
        order = post_an_order()
        outbox.deliver_all()

        services.ship_order(order_id=order.id, carrier="A", tracking_number="1", by="staff")
        outbox.deliver_all()
        services.receive_order(order_id=order.id, by="staff")
        outbox.deliver_all()

        assert status(order) == "received"
        assert counters("TEA") == ledger("TEA") == (3, 0)
        assert "shipping" in emails(order)
        assert owed() == 0

    def test_ends_the_same_if_each_worker_dies_once(
        self, outbox: Outbox, bank: BankProcess, mailoutbox: list[EmailMultiAlternatives]
    ):
        put_on_sale("TEA", units=5)

        order = post_an_order()
        outbox.deliver_all(twice=True)

        assert statuses(order) == ["placed", "confirmed", "ready_to_ship"]
        assert counters("TEA") == ledger("TEA") == (5, 2)
        assert bank.charges(order.id) == {"authorizations": 1, "captures": 1}
        assert len(emitted(order)) == len(set(emitted(order)))
        message_ids = {message.message()["Message-ID"] for message in mailoutbox}
        assert message_ids == set(Email.objects.values_list("message_id", flat=True))

    def test_has_a_complete_timeline(self, outbox: Outbox, bank: BankProcess):
        put_on_sale("TEA", units=5)
        order = post_an_order()
        outbox.deliver_all()

        timeline = timeline_of(key=str(order.id))

        names = {event.id: event.name for event in timeline}
        causes = {
            event.name: names[event.causation_id] if event.causation_id else None
            for event in timeline
        }
        assert causes.items() >= {
            ("orders.OrderPlaced", None),
            ("inventory.StockReserved", "orders.OrderPlaced"),
            ("payments.PaymentAuthorized", "orders.OrderPlaced"),
            ("payments.PaymentCaptured", "orders.OrderConfirmed"),
            ("orders.OrderReadyToShip", "payments.PaymentCaptured"),
        }
        assert len({event.correlation_id for event in timeline}) == 1

    def test_has_no_address_in_its_events(self, outbox: Outbox, bank: BankProcess):
        put_on_sale("TEA", units=5)
        post_an_order()
        outbox.deliver_all()

        payloads = " ".join(str(event.payload) for event in Event.objects.all())

        assert "hanako" not in payloads


class TestTwoOrders:
    def test_do_not_affect_each_other(self, outbox: Outbox, bank: BankProcess):
        put_on_sale("TEA", units=5)
        first, second = place(quantity=2), place(quantity=3)

        outbox.deliver_all()

        assert (status(first), status(second)) == ("ready_to_ship", "ready_to_ship")
        assert counters("TEA") == (5, 5)
