from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from inventory.models import Product
from orders.models import Order
from outbox.testing import Outbox
from tests.inventory.shelf import put_on_sale
from tests.orders.buyer import customer, place, signed_in

pytestmark = pytest.mark.django_db


def body(**changes: Any) -> dict[str, Any]:
    whole = {"payment_method": "tok_success", "lines": [{"sku": "TEA", "quantity": 2}]}
    return whole | changes


def post(content: Any, **more: Any) -> Any:
    return signed_in(customer()).post("/api/orders/", content, format="json", **more)


class TestPostOrder:
    def test_answers_with_the_order_and_where_it_is(self, outbox: Outbox):
        put_on_sale("TEA", price=500)

        answer = post(body())

        order = Order.objects.get()
        assert answer.status_code == 201
        assert answer["Location"] == f"http://testserver/api/orders/{order.id}/"
        assert answer.json() == {
            "id": str(order.id),
            "reference": order.reference,
            "status": "placed",
            "cancel_reason": "",
            "total": {"amount": 1000, "currency": "JPY"},
            "lines": [
                {
                    "sku": "TEA",
                    "name": "Tea",
                    "quantity": 2,
                    "unit_price": {"amount": 500, "currency": "JPY"},
                    "total": {"amount": 1000, "currency": "JPY"},
                }
            ],
            "email": "hanako@example.com",
            "language": "en",
            "carrier": "",
            "tracking_number": "",
            "placed_at": answer.json()["placed_at"],
            "changed_at": answer.json()["changed_at"],
        }
        assert outbox.emitted("orders.OrderPlaced").order_id == order.id

    def test_takes_a_token(self, outbox: Outbox):
        put_on_sale("TEA")
        token = Token.objects.create(user=customer())
        client = APIClient(headers={"Authorization": f"Token {token.key}"})

        answer = client.post("/api/orders/", body(), format="json")

        assert answer.status_code == 201

    def test_takes_another_address_and_language(self, outbox: Outbox):
        put_on_sale("TEA")

        answer = post(body(email="gift@example.com", language="ja"))

        assert (answer.json()["email"], answer.json()["language"]) == ("gift@example.com", "ja")

    def test_takes_the_language_of_the_browser(self, outbox: Outbox):
        put_on_sale("TEA")

        answer = post(body(), headers={"Accept-Language": "ja-JP,ja;q=0.9,en;q=0.5"})

        assert answer.json()["language"] == "ja"

    def test_takes_no_price_and_no_total_from_the_customer(self, outbox: Outbox):
        put_on_sale("TEA", price=500)
        cheap = {"amount": 1, "currency": "JPY"}
        lines = [{"sku": "TEA", "quantity": 2, "unit_price": cheap, "total": cheap}]

        answer = post(body(lines=lines, total=cheap))

        assert answer.json()["total"]["amount"] == 1000

    def test_wants_someone_signed_in(self):
        answer = APIClient().post("/api/orders/", body(), format="json")

        assert answer.status_code == 401

    def test_tolerates_an_idempotency_key(self, outbox: Outbox):
        put_on_sale("TEA")

        assert post(body(), headers={"Idempotency-Key": "4711"}).status_code == 201


TEA = {"sku": "TEA", "quantity": 1}

BAD = {
    "no lines": (body(lines=[]), "lines"),
    "lines missing": ({"payment_method": "tok_success"}, "lines"),
    "lines that are no list": (body(lines="TEA"), "lines"),
    "too many lines": (body(lines=[{"sku": f"S{n}", "quantity": 1} for n in range(101)]), "lines"),
    "a product twice": (body(lines=[TEA, TEA]), "More than once: TEA"),
    "an unknown product": (body(lines=[{"sku": "GONE", "quantity": 1}]), "Not for sale: GONE"),
    "a product not on sale": (body(lines=[{"sku": "OLD", "quantity": 1}]), "Not for sale: OLD"),
    "no units": (body(lines=[TEA | {"quantity": 0}]), "quantity"),
    "negative units": (body(lines=[TEA | {"quantity": -1}]), "quantity"),
    "too many units": (body(lines=[TEA | {"quantity": 1001}]), "quantity"),
    "astronomic units": (body(lines=[TEA | {"quantity": 10**30}]), "quantity"),
    "half a unit": (body(lines=[TEA | {"quantity": 1.5}]), "quantity"),
    "true units": (body(lines=[TEA | {"quantity": True}]), "quantity"),
    "a NUL in the SKU": (body(lines=[{"sku": "TE\0A", "quantity": 1}]), "sku"),
    "an empty SKU": (body(lines=[{"sku": "", "quantity": 1}]), "sku"),
    "a long SKU": (body(lines=[{"sku": "X" * 65, "quantity": 1}]), "sku"),
    "no payment method": ({"lines": [TEA]}, "payment_method"),
    "a card number": (body(payment_method="4242424242424242"), "never a card number"),
    "a bad address": (body(email="nobody"), "email"),
    "an unknown language": (body(language="xx"), "language"),
    "a list for an order": ([TEA], "non_field_errors"),
}


class TestPostBadOrder:
    @pytest.mark.parametrize(("content", "named"), BAD.values(), ids=list(BAD))
    def test_is_refused_by_name_and_nothing_is_written(
        self, outbox: Outbox, content: Any, named: str
    ):
        put_on_sale("TEA")
        put_on_sale("OLD")
        Product.objects.filter(sku="OLD").update(on_sale=False)

        answer = post(content)

        assert answer.status_code == 400
        assert named in answer.content.decode()
        assert not Order.objects.exists()
        assert outbox.all_emitted() == []

    @pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b"null", b"", b'"TEA"'])
    def test_is_refused_where_it_is_no_json_object(self, outbox: Outbox, raw: bytes):
        client = signed_in(customer())

        answer = client.post("/api/orders/", raw, content_type="application/json")

        assert answer.status_code == 400
        assert not Order.objects.exists()

    def test_is_refused_without_any_address(self, outbox: Outbox):
        put_on_sale("TEA")
        nobody = customer("nobody", email="")

        answer = signed_in(nobody).post("/api/orders/", body(), format="json")

        assert answer.status_code == 400
        assert "email" in answer.json()


class TestGetOrder:
    def test_shows_the_owner_their_order(self):
        put_on_sale()
        order = place()

        answer = signed_in(customer()).get(f"/api/orders/{order.id}/")

        assert answer.status_code == 200
        assert answer.json()["reference"] == order.reference

    def test_shows_it_to_staff(self):
        put_on_sale()
        order = place()

        answer = signed_in(customer("staff", is_staff=True)).get(f"/api/orders/{order.id}/")

        assert answer.status_code == 200

    @pytest.mark.parametrize("path", ["", "timeline/"])
    def test_hides_it_from_others_as_if_it_were_not_there(self, path: str):
        put_on_sale()
        taro = signed_in(customer("taro"))

        foreign = taro.get(f"/api/orders/{place().id}/{path}")
        unknown = taro.get(f"/api/orders/{uuid4()}/{path}")

        assert foreign.status_code == unknown.status_code == 404
        assert foreign.content == unknown.content


class TestGetOrders:
    def test_lists_your_own_the_latest_first_page_by_page(self):
        put_on_sale(units=0)
        placed = [str(place().id) for _ in range(51)]
        client = signed_in(customer())

        first = client.get("/api/orders/").json()
        second = client.get(first["next"]).json()

        assert [row["id"] for row in first["results"] + second["results"]] == placed[::-1]
        assert second["next"] is None

    def test_costs_the_same_number_of_queries_for_one_and_for_many(
        self, django_assert_num_queries: Any
    ):
        put_on_sale(units=0)
        for _ in range(10):
            place()

        client = signed_in(customer())

        with django_assert_num_queries(2):
            client.get("/api/orders/")


class TestGetTimeline:
    def test_shows_each_event_and_its_deliveries(self, outbox: Outbox):
        put_on_sale()
        order = place()
        outbox.deliver_all(only="inventory")

        events = signed_in(customer()).get(f"/api/orders/{order.id}/timeline/").json()

        placed, reserved = events
        assert (placed["name"], placed["depth"], placed["caused_by"]) == (
            "orders.OrderPlaced",
            0,
            None,
        )
        assert (reserved["name"], reserved["depth"], reserved["caused_by"]) == (
            "inventory.StockReserved",
            1,
            placed["id"],
        )
        states = {row["handler"]: row["state"] for row in placed["deliveries"]}
        assert states["inventory.reserve_stock"] == "done"
        assert states["notifications.acknowledge_order"] == "pending"

    def test_shows_reasons_to_staff_only(self, outbox: Outbox):
        put_on_sale()
        order = place()
        Order.objects.filter(pk=order.pk).update(status="received")
        outbox.given("payments.PaymentDeclined", order_id=order.id, reason="insufficient_funds")
        outbox.deliver_all(only="orders", raise_errors=False)

        def reason(user: Any) -> str:
            events = signed_in(user).get(f"/api/orders/{order.id}/timeline/").json()
            return "".join(row["why"] for event in events for row in event["deliveries"])

        assert "cannot go from received to cancelled" in reason(customer("s", is_staff=True))
        assert reason(customer()) == ""

    def test_keeps_payloads_to_itself(self, outbox: Outbox):
        put_on_sale()
        order = place(payment_method="tok_secret")

        answer = signed_in(customer()).get(f"/api/orders/{order.id}/timeline/")

        assert b"tok_secret" not in answer.content


class TestOrderId:
    def test_sorts_by_time(self):
        put_on_sale(units=0)

        ids = [place().id for _ in range(5)]

        assert ids == sorted(ids)
        assert {id.version for id in ids} == {7}
