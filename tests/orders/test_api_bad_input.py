"""An invalid order gets an error for each invalid field, and nothing is stored."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User

from api.models import StoredAnswer
from inventory.models import Product
from orders.models import Order
from outbox.testing import Outbox
from tests.inventory.factories import put_on_sale
from tests.orders.factories import a_key, customer, signed_in
from tests.orders.test_api import ready_to_ship, shipper

pytestmark = pytest.mark.django_db

TEA = {"sku": "TEA", "quantity": 1}
CHEAP = {"amount": 1, "currency": "JPY"}


def body(**changes: Any) -> dict[str, Any]:
    return {"payment_method": "tok_success", "lines": [TEA]} | changes


def line(**changes: Any) -> dict[str, Any]:
    return body(lines=[TEA | changes])


# What is sent, where the fault lies, and its code.
BAD = {
    "no lines": (body(lines=[]), "#/lines", "min_length"),
    "lines missing": ({"payment_method": "tok_success"}, "#/lines", "required"),
    "lines that are no list": (body(lines="TEA"), "#/lines", "not_a_list"),
    "a line that is no object": (body(lines=["TEA"]), "#/lines/0", "invalid"),
    "too many lines": (
        body(lines=[{"sku": f"S{n}", "quantity": 1} for n in range(101)]),
        "#/lines",
        "max_length",
    ),
    "a product twice": (body(lines=[TEA, TEA]), "#/lines", "invalid"),
    "an unknown product": (line(sku="GONE"), "#/lines/0/sku", "not_for_sale"),
    "a product not on sale": (
        body(lines=[TEA, {"sku": "OLD", "quantity": 1}]),
        "#/lines/1/sku",
        "not_for_sale",
    ),
    "no units": (line(quantity=0), "#/lines/0/quantity", "min_value"),
    "negative units": (line(quantity=-1), "#/lines/0/quantity", "min_value"),
    "too many units": (line(quantity=1001), "#/lines/0/quantity", "max_value"),
    "astronomic units": (line(quantity=10**30), "#/lines/0/quantity", "max_value"),
    "half a unit": (line(quantity=1.5), "#/lines/0/quantity", "invalid"),
    "a float of units": (line(quantity=1.0), "#/lines/0/quantity", "invalid"),
    "a text of units": (line(quantity="1"), "#/lines/0/quantity", "invalid"),
    "true units": (line(quantity=True), "#/lines/0/quantity", "invalid"),
    "null units": (line(quantity=None), "#/lines/0/quantity", "null"),
    "an empty SKU": (line(sku=""), "#/lines/0/sku", "blank"),
    "a long SKU": (line(sku="X" * 65), "#/lines/0/sku", "max_length"),
    "two lines for a SKU": (line(sku="TEA\r\nX: y"), "#/lines/0/sku", "control_character"),
    "a SKU that is turned round": (line(sku="TEA\u202e"), "#/lines/0/sku", "control_character"),
    "a number for a SKU": (line(sku=1), "#/lines/0/sku", "invalid"),
    "a price": (line(unit_price=CHEAP), "#/lines/0/unit_price", "unknown_field"),
    "a total": (body(total=CHEAP), "#/total", "unknown_field"),
    "a currency": (body(currency="USD"), "#/currency", "unknown_field"),
    "a name that a pointer must escape": (body(**{"a/b~c d": 1}), "#/a~1b~0c%20d", "unknown_field"),
    "no payment method": ({"lines": [TEA]}, "#/payment_method", "required"),
    "a card number": (body(payment_method="4242424242424242"), "#/payment_method", "invalid"),
    "a bad address": (body(email="nobody"), "#/email", "invalid"),
    "an address that clears a screen": (
        body(email='"\x1b[2J"@example.com'),
        "#/email",
        "control_character",
    ),
    "an address in quotes": (body(email='"a b"@example.com'), "#/email", "invalid"),
    "an address of this machine": (body(email="a@localhost"), "#/email", "invalid"),
    "an address by IP": (body(email="a@[127.0.0.1]"), "#/email", "invalid"),
    "an address of a private network": (body(email="a@mail.internal"), "#/email", "invalid"),
    "an address that is turned round": (
        body(email="a@exam\u202eple.com"),
        "#/email",
        "control_character",
    ),
    "two addresses": (body(email="a@example.com, b@example.com"), "#/email", "invalid"),
    "an address with a header": (
        body(email="a@example.com\r\nBcc: b@example.com"),
        "#/email",
        "control_character",
    ),
    "an address that is a number": (body(email=1), "#/email", "invalid"),
    "an unknown language": (body(language="xx"), "#/language", "invalid_choice"),
    "a language that is none": (body(language=["en"]), "#/language", "invalid_choice"),
    "a text for an expected total": (body(expected_total="500 JPY"), "#/expected_total", "invalid"),
    "a null for an expected total": (body(expected_total=None), "#/expected_total", "null"),
    "an expected total without a currency": (
        body(expected_total={"amount": 500}),
        "#/expected_total/currency",
        "required",
    ),
    "an expected total that is a float": (
        body(expected_total={"amount": 500.0, "currency": "JPY"}),
        "#/expected_total/amount",
        "invalid",
    ),
    "an expected total of nothing": (
        body(expected_total={"amount": 0, "currency": "JPY"}),
        "#/expected_total/amount",
        "min_value",
    ),
    "an expected total with a tax": (
        body(expected_total={"amount": 500, "currency": "JPY", "tax": 1}),
        "#/expected_total/tax",
        "unknown_field",
    ),
    "a list for an order": ([TEA], "#", "invalid"),
    "a text for an order": ("TEA", "#", "invalid"),
    "more than the database can hold": (
        body(lines=[{"sku": "GOLD", "quantity": 1000}]),
        "#/lines",
        "total_too_large",
    ),
    "two currencies": (
        body(lines=[TEA, {"sku": "PIE", "quantity": 1}]),
        "#/lines",
        "mixed_currencies",
    ),
}

# Bytes that are no JSON document which we would take.
UNREADABLE = {
    "half of an object": b"{",
    "nothing after all": b" ",
    "bad UTF-8": b'{"payment_method": "\xff\xfe"}',
    "UTF-16": json.dumps(body()).encode("utf-16"),
    "NaN": b'{"lines": NaN}',
    "a name twice": b'{"lines": [], "lines": []}',
    "a NUL": b'{"payment_method": "tok\\u0000"}',
    "a NUL in a name": b'{"tok\\u0000": 1}',
    "half of a surrogate pair": b'{"payment_method": "\\ud800"}',
    "a number of five thousand digits": b'{"lines": ' + b"9" * 5000 + b"}",
    "a deep nest": b"[" * 21 + b"]" * 21,
    "an endless nest": b"[" * 100_000,
}


class TestAnInvalidOrder:
    @pytest.mark.parametrize(("content", "pointer", "code"), BAD.values(), ids=list(BAD))
    def test_is_refused_with_its_error_and_stores_nothing(
        self, outbox: Outbox, content: Any, pointer: str, code: str
    ):
        put_on_sale("TEA")
        put_on_sale("GOLD", price=2**62)
        put_on_sale("OLD")
        Product.objects.filter(sku="OLD").update(on_sale=False)
        put_on_sale("PIE")
        Product.objects.filter(sku="PIE").update(currency="USD")

        answer = post(json.dumps(content).encode())

        assert answer.status_code == 400
        assert answer.json()["code"] == "invalid"
        assert [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]] == [
            (pointer, code)
        ]
        writes_nothing(outbox)

    def test_is_refused_with_all_its_errors(self):
        answer = post(json.dumps({"lines": [{"sku": ""}], "email": "nobody"}).encode())

        assert {fault["pointer"] for fault in answer.json()["errors"]} == {
            "#/payment_method",
            "#/lines/0/sku",
            "#/lines/0/quantity",
            "#/email",
        }
        assert answer.json()["detail"] == "The request has 4 errors. `errors` lists them."

    def test_is_refused_without_any_address(self, outbox: Outbox):
        put_on_sale("TEA")
        client = signed_in(customer("nobody", email=""))

        answer = client.post("/api/orders/", body(), format="json", headers=a_key())

        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == "#/email"
        writes_nothing(outbox)

    @pytest.mark.parametrize("address", ["a@localhost", '"\x1b[2J"@example.com', "a@[127.0.0.1]"])
    def test_is_refused_if_the_account_has_an_invalid_address(self, outbox: Outbox, address: str):
        put_on_sale("TEA")
        client = signed_in(customer("nobody", email=address))

        answer = client.post("/api/orders/", body(), format="json", headers=a_key())

        assert answer.status_code == 400
        assert [fault["pointer"] for fault in answer.json()["errors"]] == ["#/email"]
        assert "\x1b" not in answer.json()["detail"]
        writes_nothing(outbox)


class TestAnUnreadableBody:
    @pytest.mark.parametrize("raw", UNREADABLE.values(), ids=list(UNREADABLE))
    def test_is_refused_and_stores_nothing(self, outbox: Outbox, raw: bytes):
        answer = post(raw)

        assert answer.status_code == 400
        assert answer.json()["code"] == "parse_error"
        writes_nothing(outbox)

    def test_is_refused_if_it_is_too_large(self, outbox: Outbox):
        answer = post(b'{"payment_method": "' + b"x" * 10_000_000 + b'"}')

        assert answer.status_code == 413
        assert answer.json()["code"] == "body_too_large"
        writes_nothing(outbox)

    def test_is_refused_if_it_is_not_json(self, outbox: Outbox):
        answer = post(b"payment_method=tok_success", "application/x-www-form-urlencoded")

        assert answer.status_code == 415
        assert answer.json()["code"] == "unsupported_media_type"
        writes_nothing(outbox)


@pytest.mark.parametrize("what", ["cancel", "ship", "refunds"])
class TestABodyAboutAnOrder:
    @pytest.mark.parametrize("raw", [*UNREADABLE.values(), b"[]", b"null", b"1"])
    def test_is_refused_if_it_is_invalid_and_stores_nothing(
        self, outbox: Outbox, what: str, raw: bytes
    ):
        order = ready_to_ship()
        before = len(outbox.all_emitted())

        answer = post(raw, to=f"{order.pk}/{what}/", by=shipper())

        assert answer.status_code == 400
        assert answer.json()["code"] in {"parse_error", "invalid"}
        assert len(outbox.all_emitted()) == before
        assert Order.objects.get().status == "ready_to_ship"
        assert not StoredAnswer.objects.exists()

    def test_is_refused_if_it_is_too_large(self, outbox: Outbox, what: str):
        order = ready_to_ship()

        answer = post(b"x" * 10_000_000, to=f"{order.pk}/{what}/", by=shipper())

        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert not StoredAnswer.objects.exists()


class TestACancellation:
    def test_of_some_lines_is_refused(self, outbox: Outbox):
        """Failed: the body was ignored, and the whole order was cancelled."""
        order = ready_to_ship()

        answer = post(b'{"lines": [{"sku": "TEA", "quantity": 1}]}', to=f"{order.pk}/cancel/")

        assert answer.status_code == 400
        [error] = answer.json()["errors"]
        assert (error["pointer"], error["code"]) == ("#/lines", "unknown_field")
        assert Order.objects.get().status == "ready_to_ship"
        assert not StoredAnswer.objects.exists()

    @pytest.mark.parametrize("raw", [b"", b"{}"])
    def test_has_an_empty_body(self, outbox: Outbox, raw: bytes):
        order = ready_to_ship()

        answer = post(raw, to=f"{order.pk}/cancel/")

        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


class TestAnInvalidCursor:
    @pytest.mark.parametrize("position", ["TEA", "\0", "0", "-1", "9" * 400])
    @pytest.mark.parametrize("path", ["orders", "products"])
    def test_causes_no_server_error(self, path: str, position: str):
        cursor = b64encode(urlencode({"p": position}).encode()).decode()

        answer = signed_in(customer()).get(f"/api/{path}/", {"cursor": cursor})

        assert answer.status_code == (200 if path == "products" and position != "\0" else 404)

    @pytest.mark.parametrize("cursor", ["x", "%00", "é", "cD0"])
    def test_gets_404_if_it_cannot_be_parsed(self, cursor: str):
        answer = signed_in(customer()).get("/api/orders/", {"cursor": cursor})

        assert answer.status_code == 404


def post(
    raw: bytes, content_type: str = "application/json", *, to: str = "", by: User | None = None
) -> Any:
    client = signed_in(by or customer())
    return client.post(f"/api/orders/{to}", raw, content_type=content_type, headers=a_key())


def writes_nothing(outbox: Outbox) -> None:
    assert not Order.objects.exists()
    assert not StoredAnswer.objects.exists()
    assert outbox.all_emitted() == []
