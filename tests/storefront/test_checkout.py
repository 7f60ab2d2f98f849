"""The basket and the checkout: one form places one order, through the API."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.test import Client

from api.models import StoredAnswer
from api.throttling import UserRateThrottle
from inventory.models import Product
from orders.models import Order
from outbox.models import Event
from storefront.baskets import COOKIE, LONGEST_VALUE, MOST_PRODUCTS
from tests.storefront.factories import (
    basket_of,
    checkout_fields,
    checkout_form,
    customer,
    product,
    put_into_basket,
    signed_in,
)
from tests.threads import run_together

pytestmark = pytest.mark.django_db


@pytest.fixture
def tea() -> str:
    return product()


@pytest.fixture
def alice(tea: str) -> Client:
    """A customer with two units of tea in the basket."""
    client = signed_in(customer())
    put_into_basket(client, tea, 2)
    return client


class TestTheBasket:
    def test_adds_up_units_of_a_product(self, client, tea):
        put_into_basket(client, tea, 2)
        put_into_basket(client, tea, 3)

        assert basket_of(client) == {tea: 5}

    def test_shows_the_total(self, client, tea):
        put_into_basket(client, tea, 2)

        assert "¥2,560" in client.get("/basket/").content.decode()

    def test_removes_a_product_with_no_units(self, client, tea):
        put_into_basket(client, tea)

        client.post("/basket/change/", {"sku": tea, "quantity": "0"})

        assert basket_of(client) == {}

    @pytest.mark.parametrize("quantity", ["-1", "100", "many", ""])
    def test_refuses_a_number_that_is_none(self, client, tea, quantity):
        client.post("/basket/change/", {"sku": tea, "quantity": quantity})

        assert basket_of(client) == {}

    def test_refuses_an_unknown_product(self, client, tea):
        answer = client.post("/basket/change/", {"sku": "NO", "quantity": "1"}, follow=True)

        assert "This product is not on sale any more." in answer.content.decode()
        assert basket_of(client) == {}

    def test_drops_a_product_that_is_not_on_sale_any_more(self, client, tea):
        put_into_basket(client, tea)
        Product.objects.update(on_sale=False)

        page = client.get("/basket/").content.decode()

        assert "Some products are not on sale any more." in page
        assert "Your basket is empty." in page

    def test_warns_of_a_product_that_is_short(self, client):
        put_into_basket(client, product("CLOCK", units=1), 2)

        assert "Only 1 unit is available now." in client.get("/basket/").content.decode()

    def test_says_that_it_takes_no_more_units(self, client, tea):
        put_into_basket(client, tea, 60)

        put_into_basket(client, tea, 60)

        assert basket_of(client) == {tea: 99}
        assert "at most 99 units" in client.get("/").content.decode()

    def test_of_a_visitor_without_cookies_stores_nothing(self, tea):
        for _ in range(3):
            put_into_basket(Client(), tea)

        assert not Session.objects.exists()

    def test_with_many_messages_stores_nothing(self, client):
        """Messages that no page has shown yet are in a cookie, which compresses them."""
        for number in range(15):
            name = secrets.token_urlsafe(140)
            put_into_basket(client, product(f"TEA-{number}", name=name, units=0))

        assert not Session.objects.exists()

    def test_that_somebody_else_has_signed_is_empty(self, client, tea):
        put_into_basket(client, tea)
        value = client.cookies[COOKIE].value
        client.cookies[COOKIE] = value[:-1] + ("a" if value[-1] != "a" else "b")

        assert "Your basket is empty." in client.get("/basket/").content.decode()

    def test_is_a_cookie_that_no_script_and_no_other_site_reads(self, client, tea, settings):
        settings.SESSION_COOKIE_SECURE = True

        put_into_basket(client, tea)

        cookie = client.cookies[COOKIE]
        assert (cookie["httponly"], cookie["samesite"], cookie["secure"]) == (True, "Lax", True)

    def test_never_outgrows_a_cookie(self, client):
        skus = [f"{number:02}-{secrets.token_urlsafe(45)}" for number in range(MOST_PRODUCTS)]
        for sku in skus:
            product(sku, units=0)
            put_into_basket(client, sku, 99)

        page = client.get("/").content.decode()

        assert len(client.cookies[COOKIE].value) <= LONGEST_VALUE
        assert 30 < len(basket_of(client)) < MOST_PRODUCTS
        assert "Your basket is full." in page

    def test_is_kept_by_a_sign_in(self, client, tea):
        put_into_basket(client, tea)
        customer()

        client.post("/account/sign-in/", {"username": "alice", "password": "a long phrase 1"})

        assert basket_of(client) == {tea: 1}


class TestAnOrder:
    def test_is_placed_and_followed(self, alice, tea):
        answer = alice.post("/checkout/", checkout_form(alice))

        order = Order.objects.get()
        assert answer.headers["Location"] == f"/orders/{order.pk}/"
        assert order.email == "alice@example.com"
        assert [(line.sku, line.quantity) for line in order.lines.all()] == [(tea, 2)]
        assert basket_of(alice) == {}

    def test_has_the_correlation_id_of_the_click_and_the_customer_as_its_actor(self, alice):
        answer = alice.post("/checkout/", checkout_form(alice))

        event = Event.objects.get(name="orders.OrderPlaced")
        assert str(event.correlation_id) == answer.headers["X-Correlation-ID"]
        assert event.actor == f"user:{Order.objects.get().customer_id}"

    def test_is_placed_in_the_language_of_the_page(self, alice):
        alice.post("/checkout/", checkout_form(alice), headers={"Accept-Language": "ja"})

        assert Order.objects.get().language == "ja"

    def test_is_placed_once_by_a_form_that_is_sent_again(self, alice):
        """The back button shows the form of an order that is placed."""
        form = checkout_form(alice)

        answers = [alice.post("/checkout/", form) for _ in range(2)]

        assert Order.objects.count() == 1
        assert len({answer.headers["Location"] for answer in answers}) == 1

    def test_is_placed_once_by_two_tabs_with_the_same_basket(self, alice):
        forms = [checkout_form(alice) for _ in range(2)]

        for form in forms:
            alice.post("/checkout/", form)

        assert Order.objects.count() == 1

    def test_is_not_placed_again_with_another_card(self, alice):
        form = checkout_form(alice)
        alice.post("/checkout/", form)

        answer = alice.post("/checkout/", {**form, "card": "tok_slow"}, follow=True)

        assert answer.redirect_chain == [("/orders/", 302)]
        assert "You have placed this order before." in answer.content.decode()
        assert Order.objects.count() == 1

    def test_is_not_placed_again_when_the_api_has_forgotten_its_key(self, alice):
        """The API knows a key for a day, and a browser keeps a basket for longer."""
        form, basket = checkout_form(alice), alice.cookies[COOKIE].value
        alice.post("/checkout/", form)
        alice.cookies[COOKIE] = basket
        StoredAnswer.objects.all().delete()

        answer = alice.post("/checkout/", checkout_form(alice), follow=True)

        assert "You have placed this order before." in answer.content.decode()
        assert basket_of(alice) == {}
        assert Order.objects.count() == 1

    def test_leaves_the_basket_also_if_its_answer_was_lost(self, alice, tea):
        form, basket = checkout_form(alice), alice.cookies[COOKIE].value
        alice.post("/checkout/", form)
        alice.cookies[COOKIE] = basket  # the browser has not received the new one

        alice.post("/checkout/", {**form, "card": "tok_slow"})
        kept = basket_of(alice)
        put_into_basket(alice, tea)
        alice.post("/checkout/", checkout_form(alice))

        assert kept == {}
        assert Order.objects.count() == 2

    def test_is_placed_beside_an_earlier_one_with_the_same_products(self, alice, tea):
        alice.post("/checkout/", checkout_form(alice))
        put_into_basket(alice, tea, 2)

        alice.post("/checkout/", checkout_form(alice))

        assert Order.objects.count() == 2

    def test_leaves_products_that_were_added_meanwhile(self, alice):
        form = checkout_form(alice)
        put_into_basket(alice, product("WHISK"))

        alice.post("/checkout/", form)

        assert basket_of(alice) == {"WHISK": 1}

    def test_takes_its_products_out_of_the_basket_once(self, alice, tea):
        form = checkout_form(alice)
        alice.post("/checkout/", form)
        put_into_basket(alice, tea, 2)

        alice.post("/checkout/", form)

        assert basket_of(alice) == {tea: 2}

    def test_is_placed_once_if_another_tab_sets_the_same_number(self, alice, tea):
        form = checkout_form(alice)
        alice.post("/basket/change/", {"sku": tea, "quantity": 2})

        for one in (form, checkout_form(alice)):
            alice.post("/checkout/", one)

        assert Order.objects.count() == 1

    def test_has_the_prices_of_the_catalogue(self, alice):
        form = checkout_form(alice)

        alice.post("/checkout/", {**form, "total": "1", "unit_price": "1"})

        assert Order.objects.get().total_amount == 2560


class TestARefusedOrder:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"card": "tok_of_mine"},
            {"card": ""},
            {"email": "nobody"},
            {"email": ""},
            {"key": "1"},
        ],
    )
    def test_writes_nothing_and_shows_the_reason(self, alice, wrong):
        answer = alice.post("/checkout/", {**checkout_form(alice), **wrong})

        assert answer.status_code == 422
        assert not Order.objects.exists()
        assert not Event.objects.exists()
        assert basket_of(alice)

    def test_shows_the_sentence_of_the_api(self, alice, tea):
        form = checkout_form(alice)

        answer = alice.post("/checkout/", {**form, "line": ["GONE 1", f"{tea} 1"]})

        assert "Not for sale: GONE." in answer.content.decode()
        assert not Order.objects.exists()

    def test_may_be_sent_again_with_the_same_key(self, alice):
        form = checkout_form(alice)
        alice.post("/checkout/", {**form, "line": ["GONE 1"]})

        alice.post("/checkout/", form)

        assert Order.objects.count() == 1

    def test_without_lines_returns_to_the_basket(self, alice):
        answer = alice.post("/checkout/", {**checkout_form(alice), "line": ["TEA", "TEA x", "7"]})

        assert answer.headers["Location"] == "/basket/"

    def test_needs_the_token_of_the_form(self, tea):
        client = Client(enforce_csrf_checks=True)
        client.force_login(customer())

        answer = client.post("/checkout/", {"key": str(uuid4()), "line": f"{tea} 1"})

        assert answer.status_code == 403
        assert not Order.objects.exists()


class TestATotalThatHasChanged:
    """Staff change a price while a page of the checkout is open."""

    TEXT = "A price has changed. Check the new total, then place the order again."

    @pytest.fixture
    def form(self, alice: Client, tea: str) -> dict[str, Any]:
        """The form of a page that showed ¥2,560. The total is now ¥19,980."""
        form = checkout_form(alice)
        Product.objects.filter(pk=tea).update(price=9990)
        return form

    def test_is_shown_instead_of_an_order(self, alice, form, tea):
        answer = alice.post("/checkout/", form)

        page = answer.content.decode()
        assert answer.status_code == 422
        assert self.TEXT in page
        assert "¥19,980" in page
        assert basket_of(alice) == {tea: 2}
        nothing_is_stored()

    @pytest.mark.parametrize("change", [{"price": 1}, {"currency": "USD"}])
    def test_is_refused_if_it_is_lower_or_in_another_currency(self, alice, tea, change):
        form = checkout_form(alice)
        Product.objects.filter(pk=tea).update(**change)

        answer = alice.post("/checkout/", form)

        assert self.TEXT in answer.content.decode()
        nothing_is_stored()

    def test_is_paid_by_the_form_of_the_page_that_shows_it(self, alice, form):
        page = alice.post("/checkout/", form).content.decode()
        nothing_is_stored()

        alice.post("/checkout/", checkout_fields(page))

        assert checkout_fields(page)["key"] == form["key"]
        assert Order.objects.get().total_amount == 19980

    def test_is_that_of_the_present_basket(self, alice, form):
        put_into_basket(alice, product("WHISK", price=20), 1)

        page = alice.post("/checkout/", form).content.decode()
        alice.post("/checkout/", checkout_fields(page))

        assert "¥20,000" in page
        assert Order.objects.get().total_amount == 20000

    def test_is_in_the_form_that_a_wrong_field_shows_again(self, alice, form):
        page = alice.post("/checkout/", {**form, "email": "nobody"}).content.decode()

        assert "¥19,980" in page
        assert checkout_fields(page)["expected_total"] == "19980 JPY"

    def test_does_not_matter_for_an_order_that_is_placed(self, alice, tea):
        form = checkout_form(alice)
        first = alice.post("/checkout/", form)
        Product.objects.filter(pk=tea).update(price=9990)

        second = alice.post("/checkout/", form)

        assert second.headers["Location"] == first.headers["Location"]
        assert Order.objects.get().total_amount == 2560

    def test_is_not_compared_with_a_form_of_an_earlier_release(self, alice, form):
        """Its page is open during the deploy."""
        del form["expected_total"]

        alice.post("/checkout/", form)

        assert Order.objects.get().total_amount == 19980

    @pytest.mark.parametrize(
        "text",
        ["19980", "JPY", "19,980 JPY", "-1 JPY", "19980 JPY\n", "\u0661 JPY", "9" * 31 + " JPY"],
    )
    def test_is_not_that_of_a_malformed_form(self, alice, form, text):
        answer = alice.post("/checkout/", {**form, "expected_total": text})

        assert answer.status_code == 422
        assert self.TEXT in answer.content.decode()
        nothing_is_stored()


def nothing_is_stored() -> None:
    assert not Order.objects.exists()
    assert not Event.objects.exists()
    assert not StoredAnswer.objects.exists()


class TestTooManyOrders:
    @pytest.fixture(autouse=True)
    def one_request_in_an_hour(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cache.clear()
        monkeypatch.setattr(UserRateThrottle, "rate", "1/hour", raising=False)

    def test_are_refused_with_the_time_to_wait_and_the_basket_kept(self, alice, tea):
        alice.post("/checkout/", checkout_form(alice))
        put_into_basket(alice, tea)

        answer = alice.post("/checkout/", checkout_form(alice))

        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 3000
        assert "<h1>Please wait</h1>" in answer.content.decode()
        assert basket_of(alice) == {tea: 1}

    def test_are_refused_for_cancellations_too(self, alice):
        alice.post("/checkout/", checkout_form(alice))

        answer = alice.post(f"/orders/{Order.objects.get().pk}/cancel/")

        assert answer.status_code == 429
        assert "Retry-After" in answer.headers


class TestAVisitorWithoutASession:
    def test_signs_in_before_the_checkout(self, client, tea):
        put_into_basket(client, tea)

        answer = client.get("/checkout/")

        assert answer.headers["Location"] == "/account/sign-in/?next=%2Fcheckout%2F"

    def test_keeps_the_basket_of_a_form_that_was_open(self, alice, tea):
        form = checkout_form(alice)
        alice.session.flush()
        alice.cookies.clear()

        answer = alice.post("/checkout/", form, follow=True)

        assert "Your session has ended." in answer.content.decode()
        assert basket_of(alice) == {tea: 2}
        assert not Order.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestADoubleClick:
    def test_places_one_order(self, tea):
        """Two requests at the same time, as two clicks on the button send them."""
        user = customer()
        first = signed_in(user)
        put_into_basket(first, tea)
        form = checkout_form(first)
        second = Client()
        second.cookies = first.cookies

        answers: list[Any] = []

        def click(client: Client) -> None:
            answers.append(client.post("/checkout/", form))

        run_together([partial(click, client) for client in (first, second)])

        url = f"/orders/{Order.objects.get().pk}/"
        assert [answer.headers["Location"] for answer in answers] == [url, url]
