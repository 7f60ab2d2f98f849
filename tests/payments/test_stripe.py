"""Payments through the adapter for Stripe, with a stand-in server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
import stripe
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from uuid_utils.compat import uuid7

from outbox.models import Event
from outbox.testing import Outbox
from payments import bank_requests, gateway, services
from payments.gateway import GatewayRefused
from payments.models import BankReport, Payment, Refund
from shared.money import Money
from tests.payments.orders import (
    TOTAL,
    authorized,
    cancel,
    captured,
    confirm,
    deliver,
    place,
    retry,
    said_of,
    status,
)
from tests.stripe_stand_in import KEY, LIVE_KEY, Json, StripeStandIn, stand_in

pytestmark = pytest.mark.django_db

SECRET = "whsec_for_tests"


@pytest.fixture
def server(settings: Settings) -> Iterator[StripeStandIn]:
    with stand_in() as server:
        settings.GATEWAY = "stripe"
        settings.STRIPE_API_URL, settings.STRIPE_API_KEY = server.url, KEY
        settings.BANK_WEBHOOK_SECRETS = ["whsec_of_before", SECRET]
        yield server


@pytest.fixture
def order_id() -> UUID:
    return uuid7()


class TestAPaymentAtStripe:
    def test_is_authorized_and_captured_once(
        self, outbox: Outbox, server: StripeStandIn, order_id: UUID
    ):
        place(outbox, order_id)
        deliver(outbox, twice=True)
        confirm(outbox, order_id)

        deliver(outbox, twice=True)

        assert said_of(outbox, order_id) == ["PaymentAuthorized", "PaymentCaptured"]
        assert server.books.charges(str(order_id)) == {"authorizations": 1, "captures": 1}

    def test_is_voided(self, outbox: Outbox, server: StripeStandIn, order_id: UUID):
        authorized(outbox, order_id)
        cancel(outbox, order_id)

        deliver(outbox, twice=True)

        assert server.books.charges(str(order_id)) == {"authorizations": 1, "voids": 1}
        assert status(order_id) == "voided"

    def test_is_refunded(self, outbox: Outbox, server: StripeStandIn, order_id: UUID):
        captured(outbox, order_id)
        cancel(outbox, order_id)

        deliver(outbox, twice=True)

        charges = server.books.charges(str(order_id))
        assert charges == {"authorizations": 1, "captures": 1, "refunds": 1}

    @pytest.mark.parametrize(
        ("token", "reason"),
        [("tok_declined", "insufficient_funds"), ("tok_declined_at_capture", "expired_card")],
    )
    def test_is_declined(
        self, outbox: Outbox, server: StripeStandIn, order_id: UUID, token: str, reason: str
    ):
        place(outbox, order_id, payment_method=token)
        deliver(outbox)
        if reason == "expired_card":
            confirm(outbox, order_id)
            deliver(outbox)

        assert outbox.emitted("payments.PaymentDeclined").reason == reason
        assert server.books.charges(str(order_id)) == {"declines": 1}

    @pytest.mark.parametrize("token", ["tok_used_before", "tok_no_card"])
    def test_is_declined_if_stripe_refuses_the_payment_method(
        self, outbox: Outbox, server: StripeStandIn, order_id: UUID, token: str
    ):
        """Seen to fail until the delivery is dead, and its cancellation without an end."""
        place(outbox, order_id, payment_method=token)

        deliver(outbox)

        assert outbox.emitted("payments.PaymentDeclined").reason == "payment_method_refused"

    def test_is_declined_if_stripe_refuses_the_amount(
        self, outbox: Outbox, server: StripeStandIn, order_id: UUID
    ):
        place(outbox, order_id, total=Money(amount=40, currency="JPY"))

        deliver(outbox)

        assert outbox.emitted("payments.PaymentDeclined").reason == "amount_too_small"

    @pytest.mark.parametrize("currency", ["ISK", "UGX", "MGA", "KWD"])
    def test_is_declined_in_a_currency_with_other_units_at_stripe(
        self, outbox: Outbox, server: StripeStandIn, order_id: UUID, currency: str
    ):
        """Seen to authorize 50 krónur for 5000."""
        place(outbox, order_id, total=Money(amount=5000, currency=currency))

        deliver(outbox)

        assert outbox.emitted("payments.PaymentDeclined").reason == "currency_refused"
        assert server.books.charges(str(order_id)) == {}

    @pytest.mark.parametrize("currency", ["USD", "KRW", "RSD"])
    def test_is_of_the_amount_that_the_order_shows(
        self, outbox: Outbox, server: StripeStandIn, order_id: UUID, currency: str
    ):
        total = Money(amount=5000, currency=currency)
        place(outbox, order_id, total=total)

        deliver(outbox)

        shown = {"USD": "$50.00", "KRW": "₩5,000", "RSD": "RSD50.00"}
        assert total.format() == shown[currency]
        found = gateway.current().find(reference=str(order_id))
        assert found
        assert found.authorization.amount == total

    @pytest.mark.parametrize("token", ["tok_test_id", "tok_of_test_mode"])
    def test_is_declined_for_a_test_payment_method_at_a_live_key(
        self,
        outbox: Outbox,
        server: StripeStandIn,
        order_id: UUID,
        settings: Settings,
        token: str,
    ):
        """Seen to fail until the delivery is dead. Any customer can send one."""
        settings.STRIPE_API_KEY = LIVE_KEY
        place(outbox, order_id, payment_method=token)

        deliver(outbox)

        assert outbox.emitted("payments.PaymentDeclined").reason == "payment_method_refused"

    def test_is_not_declined_for_a_secret_key_of_the_other_mode(
        self, outbox: Outbox, server: StripeStandIn, order_id: UUID
    ):
        """Seen to cancel each order."""
        place(outbox, order_id, payment_method="tok_of_live_mode")

        with pytest.raises(GatewayRefused):
            deliver(outbox)

        assert status(order_id) == "intended"

    def test_is_found_behind_many_declined_attempts(self, server: StripeStandIn, order_id: UUID):
        """Failed: only the first page of Stripe's search was read, so the held one was unknown."""
        bank = gateway.current()
        authorize = partial(bank.authorize, reference=str(order_id), amount=TOTAL)
        held = authorize(payment_method="tok_success", idempotency_key="held")
        for number in range(12):
            authorize(payment_method="tok_declined", idempotency_key=f"declined-{number}")
        server.books.longest_page = 5

        found = bank.find(reference=str(order_id))

        assert found is not None
        assert found.authorization == held


class TestARefundAtStripe:
    @pytest.mark.parametrize("state", ["pending", "requires_action", "failed", "canceled"])
    def test_is_not_done_before_stripe_says_so(
        self, outbox: Outbox, server: StripeStandIn, order_id: UUID, state: str
    ):
        captured(outbox, order_id)
        server.books.state_of_refunds = state
        cancel(outbox, order_id)

        deliver(outbox, raise_errors=False)

        assert status(order_id) == "refunding"
        assert "PaymentRefunded" not in said_of(outbox, order_id)

    def test_is_recorded_when_a_pending_one_is_done(
        self, client: Client, outbox: Outbox, server: StripeStandIn, order_id: UUID
    ):
        captured(outbox, order_id)
        server.books.state_of_refunds = "pending"
        cancel(outbox, order_id)
        deliver(outbox, raise_errors=False)

        send(client, {**server.books.refunds[-1], "status": "succeeded"})
        deliver(outbox, "record_bank_report")

        assert status(order_id) == "refunded"

    def test_that_is_pending_is_not_requested_twice(
        self, outbox: Outbox, server: StripeStandIn, order_id: UUID
    ):
        captured(outbox, order_id)
        server.books.state_of_refunds = "pending"
        cancel(outbox, order_id)
        deliver(outbox, raise_errors=False)
        make_keys_old()
        retry()

        deliver(outbox, raise_errors=False)

        assert len(server.books.refunds) == 1

    def test_is_recorded_beside_a_pending_one(
        self, outbox: Outbox, server: StripeStandIn, order_id: UUID
    ):
        """Seen to wait for all refunds of the payment."""
        captured(outbox, order_id)
        server.books.state_of_refunds = "pending"
        for _ in range(2):
            wanted: dict[str, Any] = {"refund_id": uuid7()}
            wanted["amount"] = Money(amount=500, currency="JPY")
            outbox.given("orders.RefundRequested", order_id=order_id, returned=[], **wanted)
        deliver(outbox, raise_errors=False)
        server.books.refunds[0]["status"] = "succeeded"
        make_keys_old()
        retry()

        deliver(outbox, raise_errors=False)

        states = sorted(Refund.objects.values_list("status", flat=True))
        assert states == ["intended", "refunded"]

    def test_that_failed_twice_is_not_requested_again(
        self, outbox: Outbox, server: StripeStandIn, order_id: UUID
    ):
        captured(outbox, order_id)
        server.books.state_of_refunds = "failed"
        cancel(outbox, order_id)
        for _ in range(4):
            deliver(outbox, raise_errors=False)
            make_keys_old()
            server.books.forget_keys()
            retry()

        with pytest.raises(GatewayRefused, match="refund_failed_twice"):
            deliver(outbox)
        assert len(server.books.refunds) == 2

    @pytest.mark.parametrize("state", ["failed", "canceled"])
    def test_that_failed_is_no_refund_of_the_bank(
        self, outbox: Outbox, server: StripeStandIn, order_id: UUID, state: str
    ):
        captured(outbox, order_id)
        cancel(outbox, order_id)
        deliver(outbox)
        server.books.refunds[-1]["status"] = state

        found = gateway.current().find(reference=str(order_id))

        assert found is not None
        assert found.refunds == ()

    def test_is_found_beside_many_later_ones(
        self, outbox: Outbox, server: StripeStandIn, order_id: UUID
    ):
        """Failed: a list within an object has ten entries, so older refunds were made again."""
        captured(outbox, order_id)
        bank, wanted = gateway.current(), {"reference": str(order_id)}
        held = bank.find(**wanted)
        assert held is not None
        assert held.capture is not None
        amount = Money(amount=100, currency="JPY")
        for number in range(12):
            bank.refund(
                **wanted,
                capture_id=held.capture.capture_id,
                amount=amount,
                idempotency_key=f"refund-{number}",
            )
        server.books.longest_page = 5

        found = bank.find(**wanted)

        assert found is not None
        assert [one.key for one in found.refunds] == [f"refund-{number}" for number in range(12)]


def ask_to_refund(outbox: Outbox, order_id: UUID) -> Event:
    wanted: dict[str, Any] = {"refund_id": uuid7(), "amount": Money(amount=800, currency="JPY")}
    return outbox.given("orders.RefundRequested", order_id=order_id, returned=[], **wanted)


def make_keys_old() -> None:
    """As if days had passed since the requests."""
    before = timezone.now() - timedelta(days=2)
    Refund.objects.update(moved_at=before)
    Payment.objects.update(moved_at=before, asked_at=None)


class TestAWebhookOfStripe:
    def test_replaces_a_lost_answer(
        self, client: Client, outbox: Outbox, server: StripeStandIn, order_id: UUID
    ):
        payment = services.intend_payment(
            order_id=order_id, total=TOTAL, payment_method="tok_success"
        )
        intent = asked_elsewhere(server, order_id, payment.authorize_key)

        answers = [send(client, intent) for _ in range(2)]
        deliver(outbox, "record_bank_report")
        place(outbox, order_id)
        deliver(outbox)

        assert [answer.status_code for answer in answers] == [204, 204]
        assert said_of(outbox, order_id) == ["BankReported", "PaymentAuthorized"]
        assert server.books.charges(str(order_id)) == {"authorizations": 1}

    @pytest.mark.parametrize("is_first", [True, False])
    def test_and_the_answer_to_a_refund_have_one_effect(
        self,
        client: Client,
        outbox: Outbox,
        server: StripeStandIn,
        order_id: UUID,
        is_first: bool,
    ):
        captured(outbox, order_id)
        wanted: dict[str, Any] = {"refund_id": uuid7(), "amount": Money(amount=800, currency="JPY")}
        outbox.given("orders.RefundRequested", order_id=order_id, returned=[], **wanted)
        if is_first:
            bank_requests.refund(services.intend_refund(order_id=order_id, **wanted))
        else:
            deliver(outbox)

        answer = send(client, server.books.refunds[-1])
        deliver(outbox, "record_bank_report")
        assert Refund.objects.get(pk=wanted["refund_id"]).status == "refunded"
        deliver(outbox)

        assert answer.status_code == 204
        assert outbox.emitted("payments.PaymentRefunded").refund_id == wanted["refund_id"]
        assert server.books.charges(str(order_id))["refunds"] == 1

    @pytest.mark.parametrize("state", ["pending", "failed", "canceled"])
    def test_about_a_refund_that_is_not_made_follows_from_its_request(
        self,
        client: Client,
        outbox: Outbox,
        server: StripeStandIn,
        order_id: UUID,
        state: str,
    ):
        """Seen to begin a chain of its own, beside an older refund that is made."""
        captured(outbox, order_id)
        server.books.state_of_refunds = "succeeded"
        ask_to_refund(outbox, order_id)
        deliver(outbox)
        server.books.state_of_refunds = state
        asked = ask_to_refund(outbox, order_id)
        deliver(outbox, raise_errors=False)

        send(client, server.books.refunds[-1])

        report = Event.objects.get(name="payments.BankReported")
        assert report.correlation_id == asked.correlation_id
        deliver(outbox, "record_bank_report")
        assert Refund.objects.get(pk=asked.payload["refund_id"]).status == "intended"

    def test_about_a_refund_of_another_key_begins_a_chain(
        self, client: Client, outbox: Outbox, server: StripeStandIn, order_id: UUID
    ):
        """Made by a person at Stripe. It does not follow from a refund that we requested."""
        captured(outbox, order_id)
        ask_to_refund(outbox, order_id)
        deliver(outbox)
        metadata = {"reference": str(order_id)}

        answer = send(
            client, {**server.books.refunds[-1], "status": "failed", "metadata": metadata}
        )

        report = Event.objects.get(name="payments.BankReported")
        assert str(report.correlation_id) == answer["X-Correlation-ID"]

    def test_about_something_else_is_stored_only(
        self, client: Client, outbox: Outbox, server: StripeStandIn
    ):
        answer = send(client, {"object": "payout", "id": "po_1"})

        assert answer.status_code == 204
        assert (BankReport.objects.get().reference, outbox.all_emitted()) == ("", [])

    def test_contains_no_customer_data_after_processing(
        self, client: Client, outbox: Outbox, server: StripeStandIn, order_id: UUID
    ):
        """Failed: the body was kept for good, beyond the reach of an erasure."""
        place(outbox, order_id)

        send(client, charge_of(str(order_id)))
        assert "hanako@example.com" in BankReport.objects.get().body
        deliver(outbox, twice=True)

        stored = BankReport.objects.get()
        assert (stored.body, stored.reference) == ("", str(order_id))
        assert stored.processed_at is not None

    def test_about_something_else_stores_no_customer_data(
        self, client: Client, server: StripeStandIn
    ):
        """Failed: nothing ever processes it, so its body was kept for good."""
        send(client, charge_of("rent"))

        stored = BankReport.objects.get()
        assert (stored.body, stored.reference) == ("", "rent")

    def test_with_another_signature_is_refused(self, client: Client, server: StripeStandIn):
        assert send(client, {"object": "payout", "id": "po_1"}, "whsec_guess").status_code == 400
        assert BankReport.objects.count() == 0


def charge_of(reference: str) -> Json:
    """Return a charge as Stripe describes it, with the customer's name and address."""
    return {
        "object": "charge",
        "id": "ch_1",
        "metadata": {"reference": reference},
        "receipt_email": "hanako@example.com",
        "billing_details": {
            "name": "Hanako Yamada",
            "phone": "+81 90 1234 5678",
            "address": {"line1": "1-2-3 Ginza", "city": "Tokyo"},
        },
    }


def asked_elsewhere(server: StripeStandIn, order_id: UUID, key: str) -> Json:
    """As if our request had been carried out and its answer lost."""
    form = {
        "amount": "12800",
        "currency": "jpy",
        "payment_method": "tok_success",
        "capture_method": "manual",
        "confirm": "true",
        "metadata[reference]": str(order_id),
    }
    return server.books.post("/v1/payment_intents", form, key)[1]


def send(client: Client, about: Json, secret: str = SECRET) -> Any:
    """Post an event as Stripe does, signed by the SDK's own code."""
    event = {"id": "evt_1", "object": "event", "type": "x.y", "data": {"object": about}}
    body, now = json.dumps(event), int(time.time())
    signature = stripe.WebhookSignature._compute_signature(f"{now}.{body}", secret)
    return client.post(
        "/api/payments/webhooks/bank/",
        body,
        content_type="application/json",
        headers={"Stripe-Signature": f"t={now},v1={signature}"},
    )
