from __future__ import annotations

import itertools

import pytest
from uuid_utils.compat import uuid7

from inventory.models import Reservation, StockMovement
from tests.inventory.factories import put_on_sale

Status = Reservation.Status

ALLOWED = {
    (Status.ASKED, Status.RESERVED),
    (Status.ASKED, Status.REFUSED),
    (Status.ASKED, Status.FORESTALLED),
    (Status.RESERVED, Status.RELEASED),
    (Status.RESERVED, Status.ISSUED),
}


@pytest.mark.django_db
class TestReservation:
    @pytest.mark.parametrize(("start", "end"), sorted(ALLOWED))
    def test_allows_valid_transitions(self, start: Status, end: Status):
        reservation = Reservation.objects.create(order_id=uuid7(), status=start)

        reservation.move_to(end)

        assert Reservation.objects.get().status == end

    @pytest.mark.parametrize(
        ("start", "end"), sorted(set(itertools.product(Status, Status)) - ALLOWED)
    )
    def test_refuses_every_other_transition(self, start: Status, end: Status):
        reservation = Reservation.objects.create(order_id=uuid7(), status=start)

        with pytest.raises(Reservation.InvalidTransition):
            reservation.move_to(end)

        assert Reservation.objects.get().status == start


@pytest.mark.django_db
class TestStockMovement:
    def test_is_never_changed(self):
        put_on_sale("TEA", units=5)
        movement = StockMovement.objects.get()
        movement.on_hand = 6

        with pytest.raises(StockMovement.AppendOnly):
            movement.save()

    def test_is_never_deleted(self):
        put_on_sale("TEA", units=5)

        with pytest.raises(StockMovement.AppendOnly):
            StockMovement.objects.get().delete()
