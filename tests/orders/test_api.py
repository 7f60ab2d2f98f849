from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import yaml
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from jsonschema import (  # type: ignore[import-untyped]  # it has no types
    Draft202012Validator,
    FormatChecker,
)
from rest_framework.test import APIClient

from api.models import StoredAnswer
from orders import services
from orders.models import Order
from outbox.testing import Outbox
from tests.docs.pages import ROOT
from tests.inventory.factories import put_on_sale
from tests.orders.factories import a_key, clerk, customer, place, signed_in

pytestmark = pytest.mark.django_db


def body(**changes: Any) -> dict[str, Any]:
    whole = {"payment_method": "tok_success", "lines": [{"sku": "TEA", "quantity": 2}]}
    return whole | changes


def post(content: Any, headers: dict[str, str] | None = None) -> Any:
    headers = a_key() | (headers or {})
    return signed_in(customer()).post("/api/orders/", content, format="json", headers=headers)


class TestPostOrder:
    def test_returns_the_order_and_its_location(self, outbox: Outbox):
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
            "refund_status": "none",
            "refunded": {"amount": 0, "currency": "JPY"},
            "refunds": [],
            "email": "hanako@example.com",
            "language": "en",
            "carrier": "",
            "tracking_number": "",
            "placed_at": answer.json()["placed_at"],
            "changed_at": answer.json()["changed_at"],
        }
        assert outbox.emitted("orders.OrderPlaced").order_id == order.id

    def test_accepts_another_address_and_language(self, outbox: Outbox):
        put_on_sale("TEA")

        answer = post(body(email="gift@example.com", language="ja"))

        assert (answer.json()["email"], answer.json()["language"]) == ("gift@example.com", "ja")

    def test_uses_the_language_of_the_browser(self, outbox: Outbox):
        put_on_sale("TEA")

        answer = post(body(), headers={"Accept-Language": "ja-JP,ja;q=0.9,en;q=0.5"})

        assert answer.json()["language"] == "ja"

    def test_requires_authentication(self):
        answer = APIClient().post("/api/orders/", body(), format="json")

        assert answer.status_code == 401


class TestAnExpectedTotal:
    """Of two bags of tea for 500 yen each."""

    @pytest.fixture(autouse=True)
    def tea(self) -> None:
        put_on_sale("TEA", price=500)

    def test_that_is_the_total_places_the_order(self, outbox: Outbox):
        answer = post(body(expected_total={"amount": 1000, "currency": "JPY"}))

        assert (answer.status_code, Order.objects.get().total_amount) == (201, 1000)

    @pytest.mark.parametrize(
        ("amount", "currency", "shown"),
        [(1001, "JPY", "¥1,001"), (999, "JPY", "¥999"), (1000, "USD", "$10.00")],
    )
    def test_that_differs_is_refused_with_both_totals_and_stores_nothing(
        self, outbox: Outbox, amount: int, currency: str, shown: str
    ):
        answer = post(body(expected_total={"amount": amount, "currency": currency}))

        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (409, "total_changed")
        assert problem["detail"] == (
            f"The total of the order is ¥1,000. The request expects {shown}."
        )
        assert not Order.objects.exists()
        assert not StoredAnswer.objects.exists()
        assert outbox.all_emitted() == []

    def test_is_compared_after_the_lines_are_checked(self):
        expected = {"amount": 1, "currency": "JPY"}

        answer = post(body(lines=[{"sku": "GONE", "quantity": 1}], expected_total=expected))

        assert [fault["code"] for fault in answer.json()["errors"]] == ["not_for_sale"]


class TestGetOrder:
    def test_returns_the_order_to_its_owner(self):
        put_on_sale()
        order = place()

        answer = signed_in(customer()).get(f"/api/orders/{order.id}/")

        assert answer.status_code == 200
        assert answer.json()["reference"] == order.reference

    def test_of_a_forgotten_customer_matches_the_schema(self):
        """Failed: the schema had an address, and strict clients refused the whole order."""
        put_on_sale()
        order = place()
        Order.objects.update(email="")

        answer = signed_in(customer()).get(f"/api/orders/{order.id}/").json()

        described = yaml.safe_load((ROOT / "docs/reference/openapi.yaml").read_text())
        schema = {"$ref": "#/components/schemas/Order", "components": described["components"]}
        Draft202012Validator(schema, format_checker=FormatChecker()).validate(answer)
        assert answer["email"] == ""

    def test_returns_the_order_with_the_view_permission(self):
        put_on_sale()
        order = place()

        answer = signed_in(clerk("viewer", "orders.view_order")).get(f"/api/orders/{order.id}/")

        assert answer.status_code == 200

    @pytest.mark.parametrize("path", ["", "timeline/"])
    def test_returns_404_to_staff_without_permission(self, path: str):
        """Whoever may sign in to the admin saw every customer's orders."""
        put_on_sale()

        answer = signed_in(clerk("clerk")).get(f"/api/orders/{place().id}/{path}")

        assert answer.status_code == 404

    @pytest.mark.parametrize("path", ["", "timeline/"])
    def test_returns_404_to_other_users(self, path: str):
        put_on_sale()
        taro = signed_in(customer("taro"))

        foreign = taro.get(f"/api/orders/{place().id}/{path}")
        unknown = taro.get(f"/api/orders/{uuid4()}/{path}")

        assert foreign.status_code == unknown.status_code == 404
        assert without_id(foreign) == without_id(unknown)

    def test_returns_304_for_a_known_etag(self):
        put_on_sale()
        order = place()
        client = signed_in(customer())
        first = client.get(f"/api/orders/{order.id}/")

        again = client.get(f"/api/orders/{order.id}/", headers={"If-None-Match": first["ETag"]})

        assert (again.status_code, again.content) == (304, b"")
        assert again["ETag"] == first["ETag"]

    def test_returns_a_changed_order_again(self):
        put_on_sale()
        order = place()
        client = signed_in(customer())
        first = client.get(f"/api/orders/{order.id}/")
        services.cancel_for_lack_of_stock(order_id=order.id)

        again = client.get(f"/api/orders/{order.id}/", headers={"If-None-Match": first["ETag"]})

        assert again.status_code == 200
        assert again.json()["status"] == "cancelled"
        assert again["ETag"] != first["ETag"]


class TestGetOrders:
    def test_pages_own_orders_newest_first(self):
        put_on_sale(units=0)
        placed = [str(place().id) for _ in range(51)]
        client = signed_in(customer())

        first = client.get("/api/orders/").json()
        second = client.get(first["next"]).json()

        assert [row["id"] for row in first["results"] + second["results"]] == placed[::-1]
        assert second["next"] is None

    def test_needs_the_same_number_of_queries_for_one_and_many(
        self, django_assert_num_queries: Any
    ):
        put_on_sale(units=0)
        for _ in range(10):
            place()

        client = signed_in(customer())

        with django_assert_num_queries(2):
            client.get("/api/orders/")


class TestGetTimeline:
    def test_returns_each_event_with_its_deliveries(self, outbox: Outbox):
        put_on_sale()
        order = place()
        outbox.deliver_all(only="inventory")

        page = signed_in(customer()).get(f"/api/orders/{order.id}/timeline/").json()

        placed, reserved = page["results"]
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

    def test_returns_reasons_only_with_the_view_permission(self, outbox: Outbox):
        put_on_sale()
        order = place()
        Order.objects.filter(pk=order.pk).update(status="received")
        outbox.given("payments.PaymentDeclined", order_id=order.id, reason="insufficient_funds")
        outbox.deliver_all(only="orders", raise_errors=False)

        def reason(user: Any) -> str:
            page = signed_in(user).get(f"/api/orders/{order.id}/timeline/").json()
            return "".join(row["why"] for event in page["results"] for row in event["deliveries"])

        insider = clerk("insider", "orders.view_order", "outbox.view_delivery")
        assert "cannot change from received to cancelled" in reason(insider)
        assert reason(clerk("clerk", "orders.view_order")) == reason(customer()) == ""

    def test_reads_no_reasons_without_the_view_permission(self, outbox: Outbox):
        """Seen to fail where they were read, and dropped afterwards."""
        put_on_sale()
        order = place()
        outbox.deliver_all(only="inventory")

        def reads(user: Any) -> int:
            client = signed_in(user)
            with CaptureQueriesContext(connection) as queries:
                client.get(f"/api/orders/{order.id}/timeline/")
            return len(queries)

        insider = clerk("insider", "orders.view_order", "outbox.view_delivery")
        assert reads(customer()) < reads(insider)

    def test_returns_no_payloads(self, outbox: Outbox):
        put_on_sale()
        order = place(payment_method="tok_secret")

        answer = signed_in(customer()).get(f"/api/orders/{order.id}/timeline/")

        assert b"tok_secret" not in answer.content


PARCEL = {"carrier": "Yamato", "tracking_number": "4711"}


class TestShipOrder:
    def test_stores_carrier_and_tracking_number(self, outbox: Outbox):
        order = ready_to_ship()

        answer = ship(order, shipper())

        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["carrier"]) == ("shipped", "Yamato")
        assert outbox.emitted("orders.OrderShipped").tracking_number == "4711"

    def test_may_be_repeated(self, outbox: Outbox):
        order = ready_to_ship()

        first, second = ship(order, shipper()), ship(order, shipper())

        assert first.content == second.content
        assert outbox.emitted("orders.OrderShipped")

    def test_is_refused_if_the_order_is_not_ready(self):
        put_on_sale()

        answer = ship(place(), shipper())

        assert (answer.status_code, answer.json()["code"]) == (409, "order_not_shippable")

    def test_requires_its_permission(self):
        order = ready_to_ship()

        answer = ship(order, customer())

        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")

    def test_refuses_a_line_break_in_the_tracking_number(self):
        """Where it stood as one of ours."""
        order = ready_to_ship()

        answer = ship(
            order, shipper(), PARCEL | {"tracking_number": "1\r\nPay again: evil.example"}
        )

        assert answer.json()["errors"][0]["code"] == "control_character"
        assert Order.objects.get().status == "ready_to_ship"

    def test_requires_carrier_and_tracking_number(self):
        order = ready_to_ship()

        answer = ship(order, shipper(), {"carrier": "Yamato"})

        assert answer.json()["errors"][0]["pointer"] == "#/tracking_number"


class TestCancelOrder:
    def test_is_allowed_for_the_owner(self, outbox: Outbox):
        put_on_sale()
        order = place()

        first, second = cancel(order, customer()), cancel(order, customer())

        assert first.status_code == second.status_code == 200
        assert (first.json()["status"], first.json()["cancel_reason"]) == ("cancelled", "requested")
        assert outbox.emitted("orders.OrderCancelled").order_id == order.id

    def test_records_the_id_of_the_user(self):
        """Failed: the history had the user's name, which may be an address, beyond an erasure."""
        put_on_sale()
        order, staff = place(), shipper()

        cancel(order, staff)

        last = order.history.latest("id")
        assert last.cause == f"orders.cancel_order by user:{staff.pk}"

    def test_is_allowed_for_staff_with_permission(self):
        put_on_sale()

        assert cancel(place(), shipper()).status_code == 200

    def test_is_refused_for_staff_with_the_view_permission_only(self):
        put_on_sale()

        answer = cancel(place(), clerk("looker", "orders.view_order"))

        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")

    def test_is_refused_for_other_users(self):
        put_on_sale()

        assert cancel(place(), customer("taro")).status_code == 404

    def test_is_refused_once_shipped(self):
        order = ready_to_ship()
        ship(order, shipper())

        answer = cancel(order, customer())

        assert (answer.status_code, answer.json()["code"]) == (409, "order_not_cancellable")


class TestRefundOrder:
    def test_refunds_the_remaining_amount(self, outbox: Outbox):
        order = ready_to_ship()

        answer = refund(order, {"return_stock": False})

        assert answer.status_code == 201
        assert answer.json()["total"] == {"amount": 500, "currency": "JPY"}
        assert str(outbox.emitted("orders.RefundRequested").refund_id) == answer.json()["id"]

    def test_shows_the_refund_in_the_order(self, outbox: Outbox):
        order = ready_to_ship()
        answer = refund(order, {"return_stock": True})

        shown = signed_in(shipper()).get(f"/api/orders/{order.id}/").json()

        assert shown["refunds"] == [answer.json()]
        assert shown["refunds"][0] == {
            "id": str(order.refunds.get().id),
            "status": "requested",
            "total": {"amount": 500, "currency": "JPY"},
            "lines": [{"sku": "TEA", "quantity": 1}],
            "return_stock": True,
            "requested_at": answer.json()["requested_at"],
        }
        assert shown["refund_status"] == "requested"
        assert shown["refunded"] == {"amount": 0, "currency": "JPY"}

    def test_refunds_a_part_once_for_repeated_requests(self, outbox: Outbox):
        order = ready_to_ship()
        wanted = {"amount": {"amount": 100, "currency": "JPY"}, "return_stock": False}

        first, second = (refund(order, wanted, key="k") for _ in range(2))

        assert first.content == second.content
        assert order.refunds.get().amount == 100

    @pytest.mark.parametrize(
        ("wanted", "code"),
        [
            ({"amount": {"amount": 501, "currency": "JPY"}}, "refund_too_large"),
            ({"lines": [{"sku": "TEA", "quantity": 2}]}, "refund_too_large"),
            ({"lines": [{"sku": "GONE", "quantity": 1}]}, "nothing_to_refund"),
        ],
    )
    def test_is_refused_beyond_the_remaining_amount(self, wanted: dict[str, Any], code: str):
        order = ready_to_ship()

        answer = refund(order, {"return_stock": False} | wanted)

        assert (answer.status_code, answer.json()["code"]) == (409, code)
        assert not order.refunds.exists()

    def test_that_returns_goods_has_to_name_them(self):
        """Failed: the error said that the refund has no amount."""
        order = ready_to_ship()

        answer = refund(order, {"amount": yen(100), "return_stock": True})

        assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_refund")
        assert "units are to return to stock and no lines are named" in answer.json()["detail"]

    @pytest.mark.parametrize(
        ("wanted", "pointer"),
        [
            ({"amount": {"amount": 1, "currency": "USD"}}, "#/amount/currency"),
            ({"amount": {"amount": 0, "currency": "JPY"}}, "#/amount/amount"),
            ({"return_stock": "yes"}, "#/return_stock"),
            ({"lines": []}, "#/lines"),
        ],
    )
    def test_validates_its_fields(self, wanted: dict[str, Any], pointer: str):
        answer = refund(ready_to_ship(), {"return_stock": False} | wanted)

        assert answer.status_code == 400
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]

    def test_is_refused_before_it_is_paid(self):
        put_on_sale()

        answer = refund(place(), {"return_stock": False})

        assert (answer.status_code, answer.json()["code"]) == (409, "order_not_refundable")

    def test_requires_its_permission(self):
        order = ready_to_ship()

        answer = refund(order, {"return_stock": False}, user=customer())

        assert answer.status_code == 403


ACTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "cancel": ("orders.cancel_order", {}),
    "ship": ("orders.ship_order", PARCEL),
    "refunds": ("orders.refund_order", {"return_stock": False}),
}


@pytest.mark.parametrize(("what", "permission", "wanted"), [(a, *b) for a, b in ACTIONS.items()])
class TestAnActionOfStaff:
    def test_needs_the_permission_to_view_orders_too(
        self, outbox: Outbox, what: str, permission: str, wanted: dict[str, Any]
    ):
        path = f"/api/orders/{ready_to_ship().id}/{what}/"
        half = clerk("half", permission)
        whole = clerk("whole", permission, "orders.view_order")

        refused, done = (
            signed_in(user).post(path, wanted, format="json", headers=a_key())
            for user in (half, whole)
        )

        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
        assert done.status_code in {200, 201}

    def test_has_its_permissions_in_the_schema(
        self, what: str, permission: str, wanted: dict[str, Any]
    ):
        """Failed: no page named the permission to view orders."""
        described = yaml.safe_load((ROOT / "docs/reference/openapi.yaml").read_text())
        description = described["paths"][f"/api/orders/{{id}}/{what}/"]["post"]["description"]
        name = Permission.objects.get(codename=permission.partition(".")[2]).name

        assert f"staff with the permissions *Can view order* and *{name}*" in description


def yen(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "JPY"}


def cancel(order: Order, user: User) -> Any:
    return signed_in(user).post(f"/api/orders/{order.id}/cancel/", headers=a_key())


def refund(order: Order, wanted: dict[str, Any], *, key: str = "", user: User | None = None) -> Any:
    headers = {"Idempotency-Key": key} if key else a_key()
    client = signed_in(user or shipper())
    return client.post(f"/api/orders/{order.id}/refunds/", wanted, format="json", headers=headers)


def ready_to_ship() -> Order:
    put_on_sale()
    order = place()
    services.record_stock_reserved(order_id=order.id)
    services.record_payment_authorized(order_id=order.id)
    services.release_for_shipping(order_id=order.id)
    return order


def shipper() -> User:
    return customer("shipper", is_staff=True, is_superuser=True)


def ship(order: Order, user: User, parcel: dict[str, str] = PARCEL) -> Any:
    path = f"/api/orders/{order.id}/ship/"
    return signed_in(user).post(path, parcel, format="json", headers=a_key())


def without_id(answer: Any) -> dict[str, Any]:
    """A problem without the one part that is another in each."""
    return {name: value for name, value in answer.json().items() if name != "correlation_id"}


class TestOrderId:
    def test_sorts_by_time(self):
        put_on_sale(units=0)

        ids = [place().id for _ in range(5)]

        assert ids == sorted(ids)
        assert {id.version for id in ids} == {7}
