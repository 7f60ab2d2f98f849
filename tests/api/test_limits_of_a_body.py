"""Errors about an invalid body are short, and list the first errors only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User

from api import parsing
from api.models import StoredAnswer
from api.problems import LONGEST_DETAIL, MOST_ERRORS
from orders.models import Order
from tests.orders.factories import a_key, customer, signed_in

pytestmark = pytest.mark.django_db

LINE = {"sku": "TEA", "quantity": 1}
LARGEST = 250_000
#: Bytes of an answer, whatever is sent: so many errors, each with a pointer and a text.
LONGEST_ANSWER = 100_000


def order(**changes: Any) -> dict[str, Any]:
    return {"payment_method": "tok_success", "lines": [LINE]} | changes


def webhook(**changes: Any) -> dict[str, Any]:
    return {"url": "https://1.1.1.1/", "event_types": ["order.placed"]} | changes


def names(number: int, *, length: int = 6) -> dict[str, int]:
    return {f"{place:0{length}}": 1 for place in range(number)}


# What is sent, where, and the code of the answer.
OVERSIZED = {
    "unknown fields": ("orders", names(20_000), "parse_error"),
    "unknown fields in each line": (
        "orders",
        order(lines=[LINE | names(90) for _ in range(100)]),
        "parse_error",
    ),
    "unknown fields with long names": ("orders", names(50, length=4000), "parse_error"),
    "a long name deep inside": (
        "orders",
        order(lines=[LINE | names(1, length=100_000)]),
        "parse_error",
    ),
    "as many unknown fields as a body may have": ("orders", order(**names(90)), "invalid"),
    "unknown fields in as many lines": (
        "orders",
        order(lines=[LINE | names(60) for _ in range(70)]),
        "invalid",
    ),
    "the widest names": (
        "orders",
        order(lines=[{"\U0001f375" * 62 + f"{n:02}": 1 for n in range(50)} for _ in range(15)]),
        "invalid",
    ),
    "lines that are none": ("orders", order(lines=[1] * 100_000), "parse_error"),
    "lines in lines": ("orders", order(lines=[[[]] * 100] * 800), "parse_error"),
    "a hundred wrong lines": ("orders", order(lines=[1] * 100), "invalid"),
    "a long language": ("orders", order(language="x" * LARGEST), "invalid"),
    "event types": ("webhooks", webhook(event_types=["x"] * 60_000), "parse_error"),
    "as many event types as a list may have": (
        "webhooks",
        webhook(event_types=["x"] * 1000),
        "invalid",
    ),
    "event types that are none": ("webhooks", webhook(event_types=[{}] * 80_000), "parse_error"),
    "long event types": ("webhooks", webhook(event_types=["x" * 40_000] * 6), "invalid"),
}


@pytest.fixture
def user() -> User:
    return customer()


def post(user: User, path: str, body: Any) -> Any:
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    client = signed_in(user)
    return client.post(f"/api/{path}/", raw, content_type="application/json", headers=a_key())


class TestAnOversizedBody:
    @pytest.mark.parametrize(("path", "body", "code"), OVERSIZED.values(), ids=list(OVERSIZED))
    def test_gets_a_short_error_and_stores_nothing(
        self, user: User, path: str, body: Any, code: str
    ):
        answer = post(user, path, body)

        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (400, code)
        assert len(answer.content) <= LONGEST_ANSWER
        assert len(problem["errors"]) <= MOST_ERRORS
        texts = [part["detail"] for part in (problem, *problem["errors"])]
        assert max(map(len, texts)) <= LONGEST_DETAIL
        assert not Order.objects.exists()
        assert not StoredAnswer.objects.exists()

    def test_gets_an_error_that_counts_more_errors_than_it_lists(self, user: User):
        answer = post(user, "orders", order(lines=[{"sku": 1, "quantity": "x"}] * 40))

        assert len(answer.json()["errors"]) == MOST_ERRORS
        assert answer.json()["errors"][-1]["pointer"] == "#/lines/24/quantity"
        assert answer.json()["detail"] == (
            "The request has more than 50 errors. `errors` lists the first 50."
        )

    def test_gets_an_error_that_counts_all_listed_errors(self, user: User):
        answer = post(user, "orders", order(lines=[{"sku": 1, "quantity": "x"}] * 25))

        assert len(answer.json()["errors"]) == MOST_ERRORS
        assert answer.json()["detail"] == "The request has 50 errors. `errors` lists them."

    def test_gets_an_error_with_the_first_unknown_fields(self, user: User):
        answer = post(user, "orders", order(**names(90)))

        pointers = [fault["pointer"] for fault in answer.json()["errors"]]
        assert pointers == [f"#/{place:06}" for place in range(20)]
        assert answer.json()["detail"] == "The request has 20 errors. `errors` lists them."

    def test_gets_no_other_error_of_an_object_with_an_unknown_field(self, user: User):
        answer = post(user, "orders", {"lines": "TEA", "total": 1})

        assert [fault["pointer"] for fault in answer.json()["errors"]] == ["#/total"]

    def test_is_refused_by_length_before_its_items_are_checked(self, user: User):
        """Each wrong item would cost an error."""
        answer = post(user, "webhooks", webhook(event_types=["x"] * 1000))

        faults = [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]]
        assert faults == [("#/event_types", "max_length")]


# What is one more than a body may have, and what it may just have.
LIMITS = {
    "items": ([0] * (parsing.MOST_ITEMS + 1), [0] * parsing.MOST_ITEMS),
    "names": (names(parsing.MOST_NAMES + 1), names(parsing.MOST_NAMES)),
    "characters of a name": (
        {"x" * (parsing.LONGEST_NAME + 1): 0},
        {"x" * parsing.LONGEST_NAME: 0},
    ),
    "values": ([[0] * 999] * 6, [[0] * 999] * 5),
}


class TestALimit:
    @pytest.mark.parametrize(("over", "within"), LIMITS.values(), ids=list(LIMITS))
    def test_has_the_value_in_the_reference(self, user: User, over: Any, within: Any):
        """A body within the limits is refused as well, but by the order: it is none."""
        codes = [post(user, "orders", body).json()["code"] for body in (over, within)]

        assert codes == ["parse_error", "invalid"]

    def test_leaves_room_for_the_largest_order(self, user: User):
        lines = [{"sku": f"{'S' * 60}-{n:03}", "quantity": 1} for n in range(100)]

        answer = post(user, "orders", order(lines=lines, email="a@example.com", language="en"))

        assert {fault["code"] for fault in answer.json()["errors"]} == {"not_for_sale"}
