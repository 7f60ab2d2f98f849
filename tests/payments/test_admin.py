from __future__ import annotations

from uuid import UUID

import pytest
from django.test import Client
from uuid_utils.compat import uuid7

from payments import services
from payments.gateway import Authorization, Capture
from payments.models import Payment
from shared.money import Money
from tests.payments.orders import TOTAL


@pytest.fixture
def order_id(db: None) -> UUID:
    """An order whose payment is authorized; another one was cancelled before it was paid."""
    order_id = uuid7()
    held = Authorization(authorization_id="auth_1", amount=TOTAL)
    services.intend_payment(order_id=order_id, total=TOTAL, payment_method="tok_success")
    services.record_authorization(order_id=order_id, answer=held)
    services.intend_reversal(order_id=uuid7())
    return order_id


class TestAdmin:
    def test_lists_payments(self, admin_client: Client, order_id: UUID):
        page = admin_client.get("/admin/payments/payment/").content.decode()

        assert str(order_id) in page
        assert "¥12,800" in page
        assert "cancelled before the first request" in page

    @pytest.mark.parametrize("field", ["order_id", "authorization_id"])
    def test_finds_a_payment(self, admin_client: Client, order_id: UUID, field: str):
        wanted = str(getattr(Payment.objects.get(order_id=order_id), field))

        answer = admin_client.get("/admin/payments/payment/", {"q": wanted})

        assert [row.order_id for row in answer.context["cl"].result_list] == [order_id]

    def test_shows_how_it_came_about(self, admin_client: Client, order_id: UUID):
        payment = Payment.objects.get(order_id=order_id)

        page = admin_client.get(f"/admin/payments/payment/{payment.pk}/change/").content.decode()

        assert "orders.OrderPlaced" in page
        assert "the bank&#x27;s answer" in page

    def test_shows_what_is_given_back_as_money(self, admin_client: Client, order_id: UUID):
        """Seen to fail while it was a number of minor units."""
        taken = Capture(capture_id="cap_1", authorization_id="auth_1", amount=TOTAL)
        services.intend_capture(order_id=order_id)
        services.record_capture(order_id=order_id, answer=taken)
        for amount in (1500, 1000):
            part = Money(amount=amount, currency="JPY")
            services.intend_refund(order_id=order_id, refund_id=uuid7(), amount=part)
        payment = Payment.objects.get(order_id=order_id)

        page = admin_client.get(f"/admin/payments/payment/{payment.pk}/change/").content.decode()

        assert "¥1,500" in page
        assert "¥2,500" in page

    def test_lets_nobody_edit(self, admin_client: Client, order_id: UUID):
        payment = Payment.objects.get(order_id=order_id)
        url = f"/admin/payments/payment/{payment.pk}"

        answers = [
            admin_client.get("/admin/payments/payment/add/"),
            admin_client.post(f"{url}/change/", {"status": "captured"}),
            admin_client.post(f"{url}/delete/", {"post": "yes"}),
        ]

        assert [answer.status_code for answer in answers] == [403, 403, 403]
