from __future__ import annotations

import itertools
import re

import pytest
from django.db import IntegrityError, transaction

from orders.models import Order, new_reference
from tests.inventory.factories import put_on_sale
from tests.orders.factories import history, place

Status = Order.Status

ALLOWED = {
    (Status.PLACED, Status.CONFIRMED),
    (Status.PLACED, Status.CANCELLED),
    (Status.CONFIRMED, Status.READY_TO_SHIP),
    (Status.CONFIRMED, Status.CANCELLED),
    (Status.READY_TO_SHIP, Status.SHIPPED),
    (Status.READY_TO_SHIP, Status.CANCELLED),
    (Status.SHIPPED, Status.RECEIVED),
}


@pytest.mark.django_db
class TestOrder:
    @pytest.mark.parametrize(("start", "end"), sorted(ALLOWED))
    def test_allows_valid_transitions(self, start: Status, end: Status):
        put_on_sale()
        order = place()
        order.status = start
        order.cancel_reason = "out_of_stock" if end == Status.CANCELLED else ""

        order.move_to(end, cause="test")

        order.refresh_from_db()
        assert order.status == end
        assert history(order)[-1] == (start, end, "test")

    @pytest.mark.parametrize(
        ("start", "end"), sorted(set(itertools.product(Status, Status)) - ALLOWED)
    )
    def test_refuses_every_other_transition(self, start: Status, end: Status):
        put_on_sale()
        order = place()
        order.status = start

        with pytest.raises(Order.InvalidTransition, match="cannot change from"):
            order.move_to(end, cause="test")

        assert history(order) == [("", "placed", "orders.place_order")]

    def test_is_never_cancelled_without_a_reason(self):
        put_on_sale()
        order = place()

        with pytest.raises(IntegrityError), transaction.atomic():
            order.move_to(Status.CANCELLED, cause="test")


class TestReference:
    def test_is_short_and_unambiguous(self):
        assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){2}[0-9A-HJKMNP-TV-Z]{4}", new_reference())

    def test_differs_each_time(self):
        assert len({new_reference() for _ in range(1000)}) == 1000
