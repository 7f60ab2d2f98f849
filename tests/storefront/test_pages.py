"""The pages as the server sends them: pictures, policy, vendored files."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders

from inventory.models import Product
from outbox.admin.base import LIVE_JS
from shop.up.demo import PRODUCTS
from storefront.cards import CARDS, cards_in_use
from storefront.pictures import DEFAULT, PICTURES, picture_of
from tests.storefront.factories import customer, product, put_into_basket, signed_in

STATIC = Path(settings.BASE_DIR) / "storefront" / "static" / "storefront"


class TestThePictures:
    def test_exist_for_each_demo_product_and_for_others(self):
        names = {path.stem for path in (STATIC / "products").glob("*.svg")}

        assert {*PICTURES.values(), DEFAULT} == names
        assert set(PICTURES) == {sku for sku, *_ in PRODUCTS}
        assert finders.find(picture_of("ANOTHER"))

    def test_contain_no_script_and_no_style(self):
        """The policy would block both."""
        for path in (STATIC / "products").glob("*.svg"):
            assert not re.search(r"<style|style=|<script|href", path.read_text()), path


class TestTheVendoredFiles:
    def test_are_the_release_that_the_monitor_uses_with_its_licence(self):
        """One page never loads two releases of htmx, and an upgrade changes both."""
        ours = {path.name for path in (STATIC / "vendor").iterdir()}

        assert ours == {Path(LIVE_JS[0]).name, "htmx-LICENSE.txt"}
        for name in ours:
            theirs = finders.find(f"outbox/vendor/{name}")
            assert theirs is not None
            assert (STATIC / "vendor" / name).read_bytes() == Path(theirs).read_bytes()


@pytest.mark.django_db
class TestTheCatalogue:
    def test_shows_products_with_price_stock_and_picture(self, client):
        product("TEA-SENCHA", units=3)

        page = client.get("/").content.decode()

        assert "¥1,280" in page
        assert "Only 3 left" in page
        assert "/static/storefront/products/tea.svg" in page

    def test_sells_nothing_that_is_sold_out(self, client):
        product(units=0)

        page = client.get("/").content.decode()

        assert "Sold out" in page
        assert "Add to basket" not in page

    def test_hides_what_is_not_on_sale(self, client):
        product()
        Product.objects.update(on_sale=False)

        assert "Green tea" not in client.get("/").content.decode()

    def test_shows_many_products_on_pages(self, client):
        for number in range(30):
            product(f"P{number:02}", name=f"Product {number:02}", units=1)

        first, second = (client.get(f"/?page={page}").content.decode() for page in (1, 2))

        assert "Product 00" in first
        assert "Product 29" in second

    def test_escapes_names(self, client):
        product(name="<script>alert(1)</script>")

        assert "<script>alert" not in client.get("/").content.decode()


@pytest.mark.django_db
class TestAFormWithErrors:
    @pytest.fixture(params=["/account/sign-up/", "/account/sign-in/", "/checkout/"])
    def page(self, request) -> str:
        browser = signed_in(customer())
        put_into_basket(browser, product())
        form = {"line": "TEA 1", "email": "nobody", "card": "none", "key": str(uuid4())}
        return browser.post(request.param, form).content.decode()

    def test_describes_its_fields_by_texts_that_exist(self, page):
        named = " ".join(re.findall(r'aria-describedby="([^"]*)"', page)).split()

        assert named
        assert [one for one in named if f'id="{one}"' not in page] == []

    def test_has_lists_that_are_lists(self, page):
        """A role of its own takes the role of a list from `ul`."""
        assert 'role="alert"' in page
        assert re.findall("<ul[^>]* role=", page) == []


class TestTheCards:
    def test_exist_for_each_bank(self, settings):
        for gateway in CARDS:
            settings.GATEWAY = gateway
            assert cards_in_use()

    def test_are_known_to_the_simulated_bank(self):
        page = (Path(settings.BASE_DIR) / "docs/how-to/connect-a-bank.md").read_text()

        tricks = [card.token for card in CARDS["bank"] if card.token != "tok_success"]
        assert all(f"`{token}`" in page for token in tricks)
