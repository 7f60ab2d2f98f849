"""The page of orders under way, grouped by what they wait for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from orders import processes, services
from orders.models import Order
from outbox.testing import Outbox
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place
from tests.outbox.parcels import client_with

PAGE = reverse("admin:orders_order_processes")
PART = reverse("admin:orders_order_processes_part")


@pytest.fixture
def order(outbox: Outbox) -> Order:
    put_on_sale(price=12800)
    return place()


def numbers() -> dict[str, int]:
    return {step.awaits.value: step.number for step in processes.steps() if step.number}


class TestTheSteps:
    def test_show_the_wait_of_each_order(self, order: Order):
        placed = numbers()
        services.record_stock_reserved(order_id=order.id)
        with_stock = numbers()
        services.record_payment_authorized(order_id=order.id)
        confirmed = numbers()
        services.cancel_order(order_id=order.id, by="ann")

        assert (placed, with_stock, confirmed) == ({"stock": 1}, {"payment": 1}, {"capture": 1})
        assert numbers() == {}

    def test_sort_by_the_earliest_deadline(self, order: Order):
        late, never = place(), place()
        Order.objects.filter(pk=late.pk).update(deadline_at=timezone.now() - timedelta(minutes=1))
        Order.objects.filter(pk=never.pk).update(deadline_at=None)

        (stock,) = [step for step in processes.steps() if step.number]

        assert [one.order for one in stock.waiting] == [late, order, never]
        assert [one.left is None for one in stock.waiting] == [True, False, True]

    def test_limit_the_count(self, order: Order, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(processes, "COUNTED", 1)
        place()

        stock = processes.steps()[0]

        assert (stock.number, stock.is_cut) == (1, True)


class TestThePage:
    def test_shows_the_remaining_time(self, order: Order, admin_client: Client):
        Order.objects.update(deadline_at=timezone.now() + timedelta(minutes=12, seconds=30))

        text = admin_client.get(PAGE).content.decode()

        assert order.reference in text
        assert "12 min" in text

    def test_needs_a_bounded_number_of_queries(self, order: Order, admin_client: Client):
        admin_client.get(PART)
        with CaptureQueriesContext(connection) as few:
            admin_client.get(PART)
        for _ in range(5):
            place()
        with CaptureQueriesContext(connection) as many:
            admin_client.get(PART)

        assert len(few) == len(many) <= 10

    @pytest.mark.parametrize("url", [PAGE, PART])
    def test_requires_the_permission_to_view_orders(self, db: None, url: str):
        assert client_with("view_order").get(url).status_code == 200
        assert client_with("view_event", "view_product").get(url).status_code == 403
