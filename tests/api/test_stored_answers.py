"""A stored answer can be read only with its Idempotency-Key, and can be erased."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import settings as now
from django.contrib.auth.models import User
from django.db import connection
from pytest_django import Settings

from api import erase_answers_of
from api.encryption import decrypt, encrypt
from api.models import StoredAnswer
from orders import services
from orders.models import Order
from outbox.privacy.redaction import redact
from outbox.testing import Outbox
from tests.inventory.factories import put_on_sale
from tests.orders.factories import clerk, customer, signed_in
from webhooks.models import Endpoint

pytestmark = pytest.mark.django_db

KEY = "the-key-of-the-client"
ORDER = {"payment_method": "tok_success", "lines": [{"sku": "TEA", "quantity": 1}]}
PARCEL = {"carrier": "Yamato", "tracking_number": "1"}
WEBHOOK = {"url": "https://1.1.1.1/hooks", "event_types": ["order.placed"]}


def post(path: str, body: Any, *, by: str = "hanako") -> Any:
    client = signed_in(customer(by))
    return client.post(path, body, format="json", headers={"Idempotency-Key": KEY})


def place(*, by: str = "hanako") -> Any:
    return post("/api/orders/", ORDER, by=by)


def at_rest() -> str:
    """Return all that the table of answers holds, as the database gives it."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {StoredAnswer._meta.db_table}")
        return str(cursor.fetchall())


def cancel(order_id: str, *, by: User) -> Any:
    path = f"/api/orders/{order_id}/cancel/"
    return signed_in(by).post(path, headers={"Idempotency-Key": KEY})


def unreadable(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "api.encryption"]


class TestAStoredAnswer:
    def test_contains_neither_order_nor_key(self, outbox: Outbox):
        put_on_sale("TEA")

        answer = place()

        kept = at_rest()
        order = answer.json()
        assert StoredAnswer.objects.count() == 1
        for clear in (KEY, order["email"], order["reference"], order["id"], answer["Location"]):
            assert clear not in kept

    @pytest.mark.parametrize("how", ["added", "rotated"])
    def test_contains_no_secret_that_is_shown_once(self, outbox: Outbox, how: str):
        path, body = "/api/webhooks/", dict(WEBHOOK)
        if how == "rotated":
            path, body = f"{path}{post(path, body).json()['id']}/rotate-secret/", {}

        first, second = post(path, body), post(path, body)

        secret = first.json()["secret"]
        assert secret == Endpoint.objects.get().secret == second.json()["secret"]
        assert second["Idempotent-Replayed"] == "true"
        assert secret not in at_rest()
        assert secret.removeprefix("whsec_") not in at_rest()

    def test_can_be_read_after_a_rotation_of_the_secret_key(
        self, outbox: Outbox, settings: Settings
    ):
        put_on_sale("TEA")
        first = place()

        settings.SECRET_KEY_FALLBACKS = [now.SECRET_KEY]
        settings.SECRET_KEY = "another" * 10
        second = place()

        assert second.content == first.content
        assert second["Idempotent-Replayed"] == "true"

    def test_is_lost_with_the_secret_key_and_the_request_is_not_repeated(
        self, outbox: Outbox, settings: Settings
    ):
        put_on_sale("TEA")
        place()

        settings.SECRET_KEY = "another" * 10
        answer = place()

        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_answer_gone")
        assert Order.objects.count() == 1

    def test_that_cannot_be_decrypted_logs_an_error_without_secrets(
        self, outbox: Outbox, settings: Settings, caplog: pytest.LogCaptureFixture
    ):
        """Failed: clients got 409 after a change of SECRET_KEY, and nothing said why."""
        put_on_sale("TEA")
        place()
        secrets = [now.SECRET_KEY, "another" * 10, KEY, StoredAnswer.objects.get().sealed]

        settings.SECRET_KEY = "another" * 10
        place()

        [line] = unreadable(caplog)
        assert line.levelname == "ERROR"
        assert f"The stored answer {customer().pk}:/api/orders/" in line.getMessage()
        assert "SECRET_KEY was changed" in line.getMessage()
        assert "add the former key to SECRET_KEY_FALLBACKS" in line.getMessage()
        assert [secret for secret in secrets if secret in caplog.text] == []


class TestEncryption:
    def test_is_reversed_by_its_key_and_purpose(self):
        sealed = encrypt({"a": 1}, key=KEY, purpose="7:/api/orders/")

        assert decrypt(sealed, key=KEY, purpose="7:/api/orders/") == {"a": 1}

    @pytest.mark.parametrize(
        ("key", "purpose"),
        [("the-key-of-anothe", "7:/api/orders/"), (KEY, "8:/api/orders/"), (KEY, "7:/api/")],
    )
    def test_is_not_reversed_by_another_key_or_purpose(self, key: str, purpose: str):
        sealed = encrypt({"a": 1}, key=KEY, purpose="7:/api/orders/")

        assert decrypt(sealed, key=key, purpose=purpose) is None

    def test_detects_a_changed_byte(self):
        sealed = encrypt({"a": 1}, key=KEY, purpose="p")
        changed = sealed[:20] + ("A" if sealed[20] != "A" else "B") + sealed[21:]

        assert decrypt(changed, key=KEY, purpose="p") is None


class TestAnErasedAnswer:
    def test_leaves_no_data_and_the_request_is_not_repeated(self, outbox: Outbox):
        put_on_sale("TEA")
        place()

        assert erase_answers_of(customer().pk) == 1
        assert set(StoredAnswer.objects.values_list("sealed", flat=True)) == {""}

        answer = place()
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_answer_gone")
        assert Order.objects.count() == 1
        assert erase_answers_of(customer().pk) == 0

    def test_logs_no_error(self, outbox: Outbox, caplog: pytest.LogCaptureFixture):
        put_on_sale("TEA")
        place()
        erase_answers_of(customer().pk)

        assert place().status_code == 409

        assert unreadable(caplog) == []

    def test_belongs_to_one_user_only(self, outbox: Outbox):
        put_on_sale("TEA")
        place()
        other = place(by="taro")

        erase_answers_of(customer().pk)

        assert place(by="taro").content == other.content

    def test_is_erased_when_the_customer_is_forgotten(self, outbox: Outbox):
        put_on_sale("TEA")
        mine, _other = place(), place(by="taro")
        services.cancel_order(order_id=mine.json()["id"], by="hanako")

        redact(subject=f"user:{customer().pk}", by="ann", reason="asked to", force=True)
        outbox.deliver_all(only="orders.erase_answers")

        erased = StoredAnswer.objects.filter(sealed="").values_list("user__username", flat=True)
        assert list(erased) == ["hanako"]

    @pytest.mark.parametrize("action", ["cancel", "ship"])
    def test_of_staff_is_erased_with_the_customer(self, outbox: Outbox, action: str):
        """Failed: staff who repeated the request got the address of the forgotten customer."""
        put_on_sale("TEA")
        order = place().json()
        services.record_stock_reserved(order_id=order["id"])
        services.record_payment_authorized(order_id=order["id"])
        if action == "ship":
            services.release_for_shipping(order_id=order["id"])
        may = ("orders.view_order", "orders.cancel_order", "orders.ship_order")
        request = partial(
            signed_in(clerk("ann", *may)).post,
            f"/api/orders/{order['id']}/{action}/",
            PARCEL if action == "ship" else {},
            format="json",
            headers={"Idempotency-Key": KEY},
        )
        assert request().json()["email"] == order["email"]
        if action == "ship":
            services.receive_order(order_id=order["id"], by="ann")

        redact(subject=f"user:{customer().pk}", by="ann", reason="asked to", force=True)
        outbox.deliver_all(only="orders")

        answer = request()
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_answer_gone")

    def test_of_staff_about_other_customers_is_kept(self, outbox: Outbox):
        put_on_sale("TEA")
        place()
        other = place(by="taro").json()
        staff = clerk("ann", "orders.view_order", "orders.cancel_order")
        first = cancel(other["id"], by=staff)

        services.erase_answers(subject=f"user:{customer().pk}")

        assert cancel(other["id"], by=staff).content == first.content

    def test_that_is_stored_while_the_erasure_waits_is_erased_with_the_address(
        self, outbox: Outbox
    ):
        """Failed: the erasure of answers did not run again, and the address stayed for a day."""
        put_on_sale("TEA")
        order = place().json()
        redact(subject=f"user:{customer().pk}", by="ann", reason="asked to", force=True)
        outbox.deliver_all(only="orders")
        assert cancel(order["id"], by=customer()).json()["email"] == order["email"]

        outbox.let_pass(timedelta(hours=7))
        outbox.deliver_all(only="orders")

        assert Order.objects.get().email == ""
        assert set(StoredAnswer.objects.values_list("sealed", flat=True)) == {""}

    @pytest.mark.parametrize("subject", ["order:1", "user:x", "user:", "1", "user:²"])
    def test_is_not_erased_for_a_subject_that_is_no_user(self, outbox: Outbox, subject: str):
        put_on_sale("TEA")
        place()

        outbox.given("outbox.SubjectRedacted", subject=subject)
        outbox.deliver_all(only="orders.erase_answers")

        assert not StoredAnswer.objects.filter(sealed="").exists()
