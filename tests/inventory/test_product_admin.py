"""The admin of products: a price is shown and entered as money."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from inventory.models import Product
from tests.inventory.factories import put_on_sale

pytestmark = pytest.mark.django_db

PAGE = "/admin/inventory/product/TEA/change/"


@pytest.fixture
def product() -> Product:
    put_on_sale(price=1280)
    Product.objects.update(currency="USD")
    return Product.objects.get()


def save(client: Client, price: str) -> Any:
    return client.post(PAGE, {"name": "Tea", "price": price, "on_sale": "on"})


class TestThePrice:
    def test_is_shown_in_units_of_the_currency(self, product: Product, admin_client: Client):
        page = admin_client.get(PAGE).content.decode()

        assert 'value="12.80"' in page
        assert "In USD." in page
        assert "minor units" not in page

    def test_is_stored_in_minor_units(self, product: Product, admin_client: Client):
        save(admin_client, "13.05")

        product.refresh_from_db()
        assert product.price == 1305

    @pytest.mark.parametrize("price", ["13.051", "0", "0.00", "-1", "1e30", "nan", ""])
    def test_is_refused_if_the_currency_has_no_such_amount(
        self, product: Product, admin_client: Client, price: str
    ):
        answer = save(admin_client, price)

        product.refresh_from_db()
        assert answer.status_code == 200
        assert product.price == 1280

    def test_has_the_decimals_of_iso_4217(self, product: Product, admin_client: Client):
        """Seen to be stored as 5000 for 5000 dinars, which is 50 dinars for a bank."""
        Product.objects.update(currency="RSD")

        save(admin_client, "5000")

        product.refresh_from_db()
        assert product.price == 500_000

    def test_is_money_for_a_user_who_may_only_view_it(self, product: Product, client: Client):
        clerk = User.objects.create_user("clerk", is_staff=True)
        clerk.user_permissions.add(Permission.objects.get(codename="view_product"))
        client.force_login(clerk)

        page = client.get(PAGE).content.decode()

        assert "$12.80" in page
        assert "1280" not in page


class TestTheNames:
    def test_are_entered_in_both_languages(self, product: Product, admin_client: Client):
        form = {"name": "Green tea", "name_ja": "緑茶", "price": "12.80", "on_sale": "on"}
        admin_client.post(PAGE, form)

        product.refresh_from_db()
        assert (product.name, product.name_ja) == ("Green tea", "緑茶")

    @pytest.mark.parametrize("term", ["green", "緑"])
    def test_are_found_in_both_languages(self, product: Product, admin_client: Client, term: str):
        Product.objects.update(name="Green tea", name_ja="緑茶")

        page = admin_client.get(f"/admin/inventory/product/?q={term}").content.decode()

        assert "1 product" in page
