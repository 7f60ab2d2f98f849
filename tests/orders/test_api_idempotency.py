"""A request that is sent twice has one effect and one answer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from api.models import StoredAnswer
from api.tasks import delete_old_rows
from inventory.models import Product
from orders import services
from orders.models import Order
from outbox.testing import Outbox
from tests.inventory.factories import put_on_sale
from tests.orders.factories import customer, signed_in
from tests.orders.test_api import ready_to_ship, shipper
from tests.threads import run_together

pytestmark = pytest.mark.django_db

ONE = {"payment_method": "tok_success", "lines": [{"sku": "TEA", "quantity": 1}]}
SEEN = {**ONE, "expected_total": {"amount": 500, "currency": "JPY"}}
TWO = {"payment_method": "tok_success", "lines": [{"sku": "TEA", "quantity": 2}]}


def post(
    content: Any = ONE,
    *,
    key: str | None = "k1",
    client: APIClient | None = None,
    path: str = "/api/orders/",
) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    client = client or signed_in(customer())
    return client.post(path, content, format="json", headers=headers)


class TestTheKey:
    def test_is_required(self, outbox: Outbox):
        put_on_sale("TEA")

        answer = post(key=None)

        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing")
        assert not Order.objects.exists()

    @pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256, "a\tb"])
    def test_has_at_most_255_visible_ascii_characters(self, key: str):
        put_on_sale("TEA")

        answer = post(key=key)

        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")
        assert not Order.objects.exists()

    @pytest.mark.parametrize("key", ["x" * 255, '"8e03978e"', "!~"])
    def test_may_have_any_visible_ascii_character(self, outbox: Outbox, key: str):
        put_on_sale("TEA")

        assert post(key=key).status_code == 201


class TestARepetition:
    def test_gets_the_same_answer_and_places_no_second_order(self, outbox: Outbox):
        put_on_sale("TEA")

        first, second = post(), post()

        assert first.status_code == second.status_code == 201
        assert first.content == second.content
        assert first["Location"] == second["Location"]
        assert "Idempotent-Replayed" not in first
        assert second["Idempotent-Replayed"] == "true"
        assert Order.objects.count() == 1
        assert len(outbox.all_emitted("orders.OrderPlaced")) == 1

    def test_gets_the_first_answer_after_a_status_change(self, outbox: Outbox):
        put_on_sale("TEA")
        first = post()
        services.cancel_for_lack_of_stock(order_id=first.json()["id"])
        Product.objects.update(on_sale=False)

        second = post()

        assert second.content == first.content

    def test_gets_the_first_answer_after_a_change_of_the_total(self, outbox: Outbox):
        put_on_sale("TEA", price=500)
        first = post(SEEN)
        Product.objects.update(price=9990)

        second = post(SEEN)

        assert first.status_code == 201
        assert second.content == first.content

    def test_may_have_other_spaces_and_another_order_of_fields(self, outbox: Outbox):
        put_on_sale("TEA")
        first = post()

        second = post({name: ONE[name] for name in reversed(ONE)})

        assert second.content == first.content

    def test_with_another_body_is_refused(self, outbox: Outbox):
        put_on_sale("TEA")
        post(ONE)

        answer = post(TWO)

        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
        assert Order.objects.count() == 1

    def test_places_no_second_order_after_the_answer_is_deleted(self, outbox: Outbox):
        put_on_sale("TEA")
        post()
        with time_machine.travel(timezone.now() + timedelta(hours=25)):
            delete_old_rows()

            answer = post()

        assert not StoredAnswer.objects.exists()
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_answer_gone")
        assert Order.objects.count() == 1

    def test_is_known_after_the_answer_is_deleted_and_the_total_has_changed(self, outbox: Outbox):
        put_on_sale("TEA", price=500)
        post(SEEN)
        StoredAnswer.objects.all().delete()
        Product.objects.update(price=9990)

        answer = post(SEEN)

        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_answer_gone")

    def test_of_another_user_is_a_new_request(self, outbox: Outbox):
        put_on_sale("TEA")
        taro = signed_in(customer("taro"))

        first, second = post(), post(client=taro)

        assert first.json()["id"] != second.json()["id"]

    def test_under_another_key_is_another_order(self, outbox: Outbox):
        put_on_sale("TEA")

        first, second = post(key="k1"), post(key="k2")

        assert first.json()["id"] != second.json()["id"]


TRANSITIONS: dict[str, Any] = {
    "cancel": {},
    "ship": {"carrier": "Yamato", "tracking_number": "4711"},
    "refunds": {"return_stock": False},
}


def move(order: Order, what: str, content: Any = None, *, key: str | None = "k1") -> Any:
    return post(
        TRANSITIONS[what] if content is None else content,
        key=key,
        client=signed_in(shipper()),
        path=f"/api/orders/{order.id}/{what}/",
    )


@pytest.mark.parametrize("what", TRANSITIONS)
class TestAnActionOnAnOrder:
    def test_needs_a_key(self, outbox: Outbox, what: str):
        order = ready_to_ship()

        answer = move(order, what, key=None)

        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing")
        assert Order.objects.get().status == "ready_to_ship"

    def test_is_done_once_and_gets_the_same_answer(self, outbox: Outbox, what: str):
        order = ready_to_ship()

        first, second = move(order, what), move(order, what)

        assert 200 <= first.status_code == second.status_code < 300
        assert first.content == second.content
        assert second["Idempotent-Replayed"] == "true"
        assert len(outbox.all_emitted(EVENTS[what])) == 1

    def test_under_its_key_with_another_body_is_refused(self, outbox: Outbox, what: str):
        order = ready_to_ship()
        move(order, what)

        answer = move(order, what, OTHERWISE[what])

        # A cancellation has no fields, so there is no other valid body.
        refusal = (400, "invalid") if what == "cancel" else (422, "idempotency_key_reused")
        assert (answer.status_code, answer.json()["code"]) == refusal
        assert len(outbox.all_emitted(EVENTS[what])) == 1

    def test_shares_its_key_with_no_other_order(self, outbox: Outbox, what: str):
        here, there = ready_to_ship(), ready_to_ship()

        move(here, what)

        assert "Idempotent-Replayed" not in move(there, what)


EVENTS = {
    "cancel": "orders.OrderCancelled",
    "ship": "orders.OrderShipped",
    "refunds": "orders.RefundRequested",
}
OTHERWISE: dict[str, Any] = {
    "cancel": {"because": "too late"},
    "ship": {"carrier": "Sagawa", "tracking_number": "4711"},
    "refunds": {"return_stock": True},
}


class TestARepeatedShipment:
    def test_under_its_key_gets_the_first_answer(self, outbox: Outbox):
        order = ready_to_ship()
        first = move(order, "ship")
        services.receive_order(order_id=order.id, by="shipper")

        second = move(order, "ship")

        assert second.content == first.content
        assert second.json()["status"] == "shipped"

    def test_under_another_key_changes_nothing_and_gets_the_current_answer(self, outbox: Outbox):
        order = ready_to_ship()
        first = move(order, "ship", key="k1")

        second = move(order, "ship", key="k2")

        assert second.content == first.content
        assert "Idempotent-Replayed" not in second
        assert len(outbox.all_emitted("orders.OrderShipped")) == 1

    def test_under_another_key_after_the_receipt_changes_nothing(self, outbox: Outbox):
        order = ready_to_ship()
        move(order, "ship", key="k1")
        services.receive_order(order_id=order.id, by="shipper")

        answer = move(order, "ship", OTHERWISE["ship"], key="k2")

        assert (answer.status_code, answer.json()["status"]) == (200, "received")
        assert answer.json()["carrier"] == "Yamato"
        assert len(outbox.all_emitted("orders.OrderShipped")) == 1


PART: dict[str, Any] = {"amount": {"amount": 100, "currency": "JPY"}, "return_stock": False}


class TestARepeatedRefund:
    def test_pays_nothing_a_second_time_after_the_answer_is_deleted(self, outbox: Outbox):
        """Failed: what was left was refunded again, and units went back that never came."""
        order = ready_to_ship()
        first = move(order, "refunds", PART)
        with time_machine.travel(timezone.now() + timedelta(hours=25)):
            delete_old_rows()

            second = move(order, "refunds", PART)

        assert not StoredAnswer.objects.exists()
        assert first.status_code == 201
        assert (second.status_code, second.json()["code"]) == (409, "idempotency_answer_gone")
        assert order.refunds.get().amount == 100
        assert len(outbox.all_emitted("orders.RefundRequested")) == 1

    def test_is_known_after_the_answer_is_deleted_and_the_order_is_cancelled(self, outbox: Outbox):
        order = ready_to_ship()
        move(order, "refunds", PART)
        services.cancel_order(order_id=order.id, by="staff")
        StoredAnswer.objects.all().delete()

        answer = move(order, "refunds", PART)

        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_answer_gone")

    def test_of_another_order_or_user_is_a_new_request(self, outbox: Outbox):
        here, there = ready_to_ship(), ready_to_ship()
        other = signed_in(customer("other", is_staff=True, is_superuser=True))
        move(here, "refunds", PART)
        StoredAnswer.objects.all().delete()

        answers = [
            move(there, "refunds", PART),
            post(PART, client=other, path=f"/api/orders/{here.id}/refunds/"),
        ]

        assert [answer.status_code for answer in answers] == [201, 201]

    def test_under_another_key_is_another_refund(self, outbox: Outbox):
        order = ready_to_ship()

        answers = [move(order, "refunds", PART, key=key) for key in ("k1", "k2")]

        assert [answer.status_code for answer in answers] == [201, 201]
        assert order.refunds.count() == 2


class TestEveryPost:
    """Of the schema, so that the next one is held to it unlisted."""

    def test_accepts_a_key(self):
        generator: Any = SchemaGenerator  # has no types
        paths = generator().get_schema(public=True)["paths"]
        posts = {path: parts["post"] for path, parts in paths.items() if "post" in parts}

        takes = {
            path: [one["name"] for one in post["parameters"] if one["in"] == "header"]
            for path, post in posts.items()
        }

        assert len(takes) >= 7
        assert takes == {path: ["Idempotency-Key"] for path in takes}


class TestARefusal:
    def test_is_not_stored(self, outbox: Outbox):
        refused = post()
        put_on_sale("TEA")

        accepted = post()

        assert refused.status_code == 400
        assert accepted.status_code == 201
        assert "Idempotent-Replayed" not in accepted

    def test_of_a_total_leaves_its_key_for_the_present_one(self, outbox: Outbox):
        put_on_sale("TEA", price=9990)

        refused = post(SEEN)
        accepted = post({**ONE, "expected_total": {"amount": 9990, "currency": "JPY"}})

        assert (refused.status_code, accepted.status_code) == (409, 201)

    def test_by_a_bug_is_not_stored(self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch):
        put_on_sale("TEA")
        client = signed_in(customer())
        client.raise_request_exception = False

        with monkeypatch.context() as patch:
            patch.setattr("orders.views.reverse", None)  # after the order and its event
            failed = post(client=client)
        accepted = post(client=client)

        assert failed.status_code == 500
        assert accepted.status_code == 201
        assert Order.objects.count() == 1
        assert len(outbox.all_emitted("orders.OrderPlaced")) == 1


class TestTheAnswer:
    def test_is_stored_for_a_day(self, outbox: Outbox):
        put_on_sale("TEA")
        post()

        with time_machine.travel(timezone.now() + timedelta(hours=23, minutes=59)):
            delete_old_rows()

        assert StoredAnswer.objects.count() == 1

    def test_is_deleted_after_a_day(self, outbox: Outbox):
        put_on_sale("TEA")
        post()

        with time_machine.travel(timezone.now() + timedelta(hours=24, minutes=1)):
            delete_old_rows()

        assert not StoredAnswer.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestConcurrentDuplicates:
    def test_wait_for_the_first_and_get_its_answer(self, outbox: Outbox):
        """Without the unique constraint: as many orders as requests."""
        put_on_sale("TEA")
        user = customer()
        answers: list[Any] = []

        run_together([lambda: answers.append(post(client=signed_in(user)))] * 8)

        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert sum("Idempotent-Replayed" in answer for answer in answers) == 7
        assert Order.objects.count() == 1
        assert len(outbox.all_emitted("orders.OrderPlaced")) == 1

    @pytest.mark.parametrize("what", TRANSITIONS)
    def test_change_an_order_once(self, outbox: Outbox, what: str):
        """Without the key all would be answered, but not alike: none of them as a repetition."""
        order = ready_to_ship()
        answers: list[Any] = []
        shipper()

        run_together([lambda: answers.append(move(order, what))] * 4)

        assert len({answer.content for answer in answers}) == 1
        assert sum("Idempotent-Replayed" in answer for answer in answers) == 3
        assert len(outbox.all_emitted(EVENTS[what])) == 1

    def test_with_another_body_are_refused(self, outbox: Outbox):
        put_on_sale("TEA")
        user = customer()
        answers: list[Any] = []

        run_together(
            [
                lambda: answers.append(post(ONE, client=signed_in(user))),
                lambda: answers.append(post(TWO, client=signed_in(user))),
            ]
        )

        assert sorted(answer.status_code for answer in answers) == [201, 422]
        assert Order.objects.count() == 1
