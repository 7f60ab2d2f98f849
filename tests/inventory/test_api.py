from __future__ import annotations

from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from inventory import services
from inventory.models import Product
from tests.inventory.factories import line, put_on_sale

pytestmark = pytest.mark.django_db


class TestGetProducts:
    def test_lists_products_on_sale_with_available_units(self):
        put_on_sale("TEA", units=5, price=500)
        services.reserve_stock(order_id=uuid4(), lines=[line("TEA", 2)])

        answer = APIClient().get("/api/products/")

        assert answer.status_code == 200
        assert answer.json()["results"] == [
            {
                "sku": "TEA",
                "name": "Tea",
                "price": {"amount": 500, "currency": "JPY"},
                "available": 3,
            }
        ]

    @pytest.mark.parametrize(("asked", "name"), [("ja", "煎茶"), ("en", "Tea"), ("", "Tea")])
    def test_names_a_product_in_the_language_of_the_request(self, asked: str, name: str):
        put_on_sale("TEA")
        Product.objects.update(name_ja="煎茶")

        answer = APIClient().get("/api/products/", headers={"Accept-Language": asked})

        assert [one["name"] for one in answer.json()["results"]] == [name]

    def test_names_a_product_without_a_japanese_name_by_its_name(self):
        put_on_sale("TEA")

        answer = APIClient().get("/api/products/", headers={"Accept-Language": "ja"})

        assert [one["name"] for one in answer.json()["results"]] == ["Tea"]

    def test_hides_products_not_on_sale(self):
        put_on_sale("TEA")
        Product.objects.update(on_sale=False)

        answer = APIClient().get("/api/products/")

        assert answer.json()["results"] == []

    def test_pages_by_sku(self):
        for number in range(101):
            put_on_sale(f"TEA{number:03}", units=0)

        first = APIClient().get("/api/products/").json()
        second = APIClient().get(first["next"]).json()

        assert [row["sku"] for row in first["results"]] == [f"TEA{n:03}" for n in range(100)]
        assert [row["sku"] for row in second["results"]] == ["TEA100"]
        assert second["next"] is None
