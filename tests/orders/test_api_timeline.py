"""The timeline of an order over HTTP: its pages, and no events of other customers."""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from api import ForwardPagination
from outbox import timeline_of
from outbox.testing import Outbox
from tests.inventory.factories import put_on_sale
from tests.orders.factories import a_key, customer, place, signed_in

pytestmark = pytest.mark.django_db


def order_over_http(client: APIClient, *, correlation_id: str) -> Any:
    body = {"payment_method": "tok_success", "lines": [{"sku": "TEA", "quantity": 1}]}
    headers = {**a_key(), "X-Correlation-ID": correlation_id}
    answer = client.post("/api/orders/", body, format="json", headers=headers)
    assert answer.status_code == 201
    return answer


class TestTheTimelineOfAnOrder:
    def test_is_paged_like_every_list(self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(ForwardPagination, "page_size", 2)
        put_on_sale()
        order = place()
        outbox.deliver_all(only="inventory")
        outbox.given("payments.PaymentAuthorized", order_id=order.pk, amount=order.total)
        outbox.deliver_all(only="orders")
        whole = [str(event.id) for event in timeline_of(key=str(order.pk))]

        client, url, pages = signed_in(customer()), f"/api/orders/{order.pk}/timeline/", []
        while url:
            pages.append(client.get(url).json())
            url = pages[-1]["next"]

        shown = [row["id"] for page in pages for row in page["results"]]
        assert sorted(shown) == sorted(whole)
        assert len(pages) == -(-len(whole) // 2) > 1
        assert {page["previous"] for page in pages} == {None}

    @pytest.mark.parametrize("position", ["x", "", "-1", "1.5", "٣", "9" * 19, "0x1", "1 OR 1=1"])
    def test_answers_an_invalid_cursor_without_a_server_error(self, position: str):
        put_on_sale()
        cursor = b64encode(urlencode({"p": position}).encode()).decode()

        answer = signed_in(customer()).get(
            f"/api/orders/{place().pk}/timeline/", {"cursor": cursor}
        )

        assert answer.status_code == 404

    def test_contains_no_events_of_another_customer(self, outbox: Outbox):
        """Whose requests bring the correlation id of the order."""
        put_on_sale(units=20)
        theirs, mine = signed_in(customer()), signed_in(customer("mallory"))
        placed = order_over_http(theirs, correlation_id=str(uuid4()))
        outbox.deliver_all(only="inventory")
        url = f"/api/orders/{placed.json()['id']}/timeline/"
        before = theirs.get(url).json()

        other = order_over_http(mine, correlation_id=placed["X-Correlation-ID"])
        outbox.deliver_all(only="inventory")

        assert theirs.get(url).json() == before
        assert other["X-Correlation-ID"] != placed["X-Correlation-ID"]
