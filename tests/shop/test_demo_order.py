"""The button for a demo order on empty pages of the monitor, in development only."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from django.urls import clear_url_caches, reverse
from django.urls import path as url_path

from inventory.services import receive_stock
from orders.models import Order
from shop import urls
from shop.demo_order import place_demo_order
from shop.up.demo import PRODUCTS
from tests.inventory.factories import put_on_sale
from tests.orders.factories import customer

OVERVIEW = reverse("admin:outbox_minute_changelist")


@pytest.fixture
def in_development(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The addresses that DEBUG adds."""
    demo = url_path("demo/order/", place_demo_order, name="demo_order")
    monkeypatch.setattr(urls, "urlpatterns", [demo, *urls.urlpatterns])
    clear_url_caches()
    yield urls
    monkeypatch.undo()
    clear_url_caches()


class TestTheDemoOrderButton:
    def test_places_an_order_and_redirects_to_it(
        self, in_development: ModuleType, admin_client: Client
    ) -> None:
        customer("alice")
        put_on_sale(sku=PRODUCTS[0][0])
        receive_stock(sku=PRODUCTS[0][0], quantity=1, reference="test")

        invited = admin_client.get(OVERVIEW).content.decode()
        answer = admin_client.post("/demo/order/")

        assert "Place a demo order" in invited
        order = Order.objects.get()
        assert answer["Location"] == reverse("admin:orders_order_change", args=[order.pk])
        assert "Place a demo order" not in admin_client.get(OVERVIEW).content.decode()

    @pytest.mark.parametrize(
        "name", ["outbox_event_changelist", "outbox_delivery_changelist", "orders_order_processes"]
    )
    def test_is_on_each_empty_page_of_the_monitor(
        self, in_development: ModuleType, admin_client: Client, name: str
    ) -> None:
        page = admin_client.get(reverse(f"admin:{name}")).content.decode()

        assert "Place a demo order" in page
        assert '<p class="outbox-empty">' in page
        before, _form, _rest = page.partition('action="/demo/order/"')
        assert before.count("<form") - before.count("</form>") == 1  # it is within no other form

    def test_is_absent_if_a_filter_finds_nothing(
        self, in_development: ModuleType, admin_client: Client
    ) -> None:
        url = reverse("admin:outbox_event_changelist") + "?q=nothing"

        assert "Place a demo order" not in admin_client.get(url).content.decode()

    def test_reports_missing_demo_data(
        self, in_development: ModuleType, admin_client: Client
    ) -> None:
        answer = admin_client.post("/demo/order/", follow=True)

        assert "no demo data" in answer.content.decode()

    def test_requires_staff(self, in_development: ModuleType, client: Client, db: None) -> None:
        client.force_login(customer())

        assert client.post("/demo/order/").status_code == 302
        assert not Order.objects.exists()

    def test_does_not_exist_in_production(self, admin_client: Client) -> None:
        assert "Place a demo order" not in admin_client.get(OVERVIEW).content.decode()
        assert admin_client.post("/demo/order/").status_code == 404


class TestTheFavicon:
    def test_is_a_file_of_ours_that_every_page_of_the_admin_names(
        self, admin_client: Client
    ) -> None:
        for url in ("/admin/", OVERVIEW):
            assert 'rel="icon"' in admin_client.get(url).content.decode()
        assert finders.find("shop/favicon.svg")
