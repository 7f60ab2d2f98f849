from __future__ import annotations

from uuid import uuid4

import pytest
from django.test import Client

from inventory import services
from inventory.models import Reservation, StockMovement
from tests.inventory.factories import line, put_on_sale


@pytest.fixture
def one_of_each(db: None) -> None:
    put_on_sale("TEA", units=5)
    services.reserve_stock(order_id=uuid4(), lines=[line("TEA", 2)])


@pytest.mark.usefixtures("one_of_each")
class TestAdmin:
    @pytest.mark.parametrize("page", ["product", "stock", "reservation", "stockmovement"])
    def test_lists(self, admin_client: Client, page: str):
        answer = admin_client.get(f"/admin/inventory/{page}/")

        assert answer.status_code == 200
        assert b"TEA" in answer.content or page == "reservation"

    def test_shows_a_reservation_with_its_lines(self, admin_client: Client):
        reservation = Reservation.objects.get()

        page = admin_client.get(f"/admin/inventory/reservation/{reservation.pk}/change/")

        assert "2 of TEA" in page.content.decode()

    def test_makes_the_ledger_read_only(self, admin_client: Client):
        movement = StockMovement.objects.first()
        assert movement

        url = f"/admin/inventory/stockmovement/{movement.pk}/"
        answers = [
            admin_client.post(f"{url}change/", {"on_hand": "99"}),
            admin_client.post(f"{url}delete/", {"post": "yes"}),
            admin_client.get("/admin/inventory/stockmovement/add/"),
        ]

        assert [answer.status_code for answer in answers] == [403, 403, 403]
