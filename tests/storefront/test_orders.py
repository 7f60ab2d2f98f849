"""A customer's own orders: their progress, cancellation, and repetition."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from api import erase_answers_of
from orders import services
from orders.models import Order
from outbox.models import Event
from payments.models import Payment
from storefront import order_views
from storefront.progress import progress_of
from tests.storefront.factories import (
    basket_of,
    customer,
    product,
    put_into_basket,
    signed_in,
)

pytestmark = pytest.mark.django_db


def place(user: User, sku: str = "TEA", card: str = "tok_success") -> Order:
    return services.place_order(
        customer=user,
        lines=[services.WantedLine(sku=sku, quantity=1)],
        payment_method=card,
        email=user.email,
        language="en",
    )


@pytest.fixture
def alice() -> User:
    product()
    return customer()


@pytest.fixture
def order(alice: User) -> Order:
    return place(alice)


@pytest.fixture
def browser(alice: User) -> Client:
    return signed_in(alice)


def states(order: Order) -> list[str]:
    from orders.queries import summary

    return [step.state.value for step in progress_of(summary(order.pk)).steps]


class TestTheProgress:
    def test_of_a_new_order_runs_goods_and_card_at_the_same_time(self, order):
        assert states(order) == ["done", "now", "now", "open", "open"]

    def test_of_a_confirmed_order_waits_for_the_money(self, order):
        services.record_stock_reserved(order_id=order.pk)
        services.record_payment_authorized(order_id=order.pk)

        assert states(order) == ["done", "done", "done", "now", "open"]

    def test_of_a_sold_out_order_names_the_failed_step(self, order):
        services.cancel_for_lack_of_stock(order_id=order.pk)

        assert states(order) == ["done", "failed", "ended", "ended", "ended"]

    def test_of_a_declined_card_names_the_failed_step(self, order):
        services.record_stock_reserved(order_id=order.pk)
        services.cancel_for_declined_payment(order_id=order.pk)

        assert states(order) == ["done", "done", "failed", "ended", "ended"]


class TestTheSentences:
    def test_cover_every_status_reason_and_payment(self):
        """A new status fails here until it has a sentence."""
        from payments.models import Status
        from storefront.progress import CANCELLED, HEADLINES, MONEY_BACK

        without_money = {Status.DECLINED, Status.FORESTALLED}
        assert set(HEADLINES) == set(Order.Status) - {Order.Status.CANCELLED}
        assert set(CANCELLED) == set(Order.CancelReason)
        assert set(MONEY_BACK) == set(Status) - without_money


class TestThePageOfAnOrder:
    def test_follows_the_status_with_and_without_javascript(self, browser, order):
        page = browser.get(f"/orders/{order.pk}/").content.decode()

        assert f'hx-get="/orders/{order.pk}/status/?seen=' in page
        assert f'content="3;url=/orders/{order.pk}/?reload"></noscript>' in page

    def test_gets_nothing_while_nothing_changes(self, browser, order):
        version = self.version(order)

        answer = browser.get(f"/orders/{order.pk}/status/?seen={version}")

        assert answer.status_code == 204

    def test_gets_the_new_status_after_a_change(self, browser, order):
        version = self.version(order)
        services.cancel_for_lack_of_stock(order_id=order.pk)

        answer = browser.get(f"/orders/{order.pk}/status/?seen={version}")

        assert "Cancelled: the goods were sold out." in answer.content.decode()
        assert "You paid nothing." in answer.content.decode()

    @pytest.mark.parametrize(("age", "seconds"), [(0, 1), (60, 5), (600, 60), (86_400, 300)])
    def test_asks_less_often_the_longer_nothing_changes(self, browser, order, age, seconds):
        self.age(order, age)

        page = browser.get(f"/orders/{order.pk}/").content.decode()

        assert f'hx-trigger="every {seconds}s, visibilitychange from:document"' in page
        assert f'content="{max(seconds, 3)};url=' in page

    def test_gets_the_longer_interval_without_a_repeated_status(self, browser, order):
        version = self.version(order)
        self.age(order, 600)

        answer = browser.get(f"/orders/{order.pk}/status/?seen={version}").content.decode()

        assert "every 60s" in answer
        assert "order-status" not in answer

    @pytest.mark.parametrize("status", ["declined", "voided", "refunded", "forestalled"])
    def test_asks_no_more_once_the_money_of_a_cancelled_order_is_settled(
        self, browser, order, status
    ):
        services.cancel_for_lack_of_stock(order_id=order.pk)
        self.pay(order, status)

        page = browser.get(f"/orders/{order.pk}/").content.decode()
        part = browser.get(f"/orders/{order.pk}/status/?seen=earlier").content.decode()

        assert "http-equiv" not in page
        assert "hx-get" not in page + part
        assert "order-status" in part

    @pytest.mark.parametrize("status", ["intended", "authorized", "captured", "voiding"])
    def test_asks_on_while_the_money_of_a_cancelled_order_moves(self, browser, order, status):
        services.cancel_for_lack_of_stock(order_id=order.pk)
        self.pay(order, status)

        assert "hx-get" in browser.get(f"/orders/{order.pk}/").content.decode()

    def test_asks_no_more_once_the_parcel_has_arrived(self, browser, order):
        Order.objects.filter(pk=order.pk).update(status="received", changed_at="2020-01-01T00Z")

        page = browser.get(f"/orders/{order.pk}/").content.decode()

        assert "hx-get" not in page
        assert "http-equiv" not in page

    def test_says_that_a_cancelled_payment_is_being_returned(self, browser, order):
        services.cancel_order(order_id=order.pk, by="user:1")
        self.pay(order, "voiding")

        page = browser.get(f"/orders/{order.pk}/").content.decode()

        assert "The bank is releasing the reserved amount." in page

    @staticmethod
    def age(order: Order, seconds: float) -> None:
        """Let the last change of the order be so long ago."""
        Order.objects.filter(pk=order.pk).update(
            changed_at=timezone.now() - timedelta(seconds=seconds)
        )

    @staticmethod
    def pay(order: Order, status: str) -> None:
        """Store the payment of a cancelled order."""
        was_held = status not in {"intended", "declined", "forestalled"}
        was_taken = status in {"captured", "refunding", "refunded"}
        Payment.objects.create(
            order_id=order.pk,
            status=status,
            amount=1280,
            currency="JPY",
            payment_method="tok_success",
            authorization_id="a1" if was_held else "",
            capture_id="c1" if was_taken else "",
            void_id="v1" if status == "voided" else "",
            declined_reason="no money" if status == "declined" else "",
            cancelled_at=order.placed_at,
        )

    @staticmethod
    def version(order: Order) -> str:
        from orders.queries import summary

        return progress_of(summary(order.pk)).version


class TestTheSentenceOfACancellation:
    def test_names_the_customer_who_asked_for_it(self, browser, alice, order):
        services.cancel_order(order_id=order.pk, by=f"user:{alice.pk}")

        assert "Cancelled, as you asked." in self.page(browser, order)

    def test_names_the_shop_if_staff_cancelled(self, browser, order):
        services.cancel_order(order_id=order.pk, by="user:0")

        page = self.page(browser, order)

        assert "Cancelled by the shop." in page
        assert "as you asked" not in page

    def test_does_not_say_that_nothing_was_paid_while_the_bank_is_asked(self, browser, order):
        services.cancel_for_lack_of_stock(order_id=order.pk)
        TestThePageOfAnOrder.pay(order, "intended")

        page = self.page(browser, order)

        assert "You paid nothing." not in page
        assert "The bank has not answered yet." in page

    @staticmethod
    def page(browser: Client, order: Order) -> str:
        return browser.get(f"/orders/{order.pk}/").content.decode()


class TestTheListOfOrders:
    @pytest.fixture(autouse=True)
    def two_on_a_page(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(order_views, "ORDERS_ON_A_PAGE", 2)

    def test_leads_from_page_to_page_the_newest_first(self, browser, alice):
        references = [place(alice).reference for _ in range(5)][::-1]
        url, shown = "/orders/", []

        while url:
            page = browser.get(url).content.decode()
            shown.append([reference for reference in references if reference in page])
            found = re.search(r'rel="next" href="([^"]*)"', page)
            url = f"/orders/{found[1]}" if found else ""

        assert shown == [references[:2], references[2:4], references[4:]]

    def test_costs_the_same_on_each_page(self, browser, alice):
        orders = [place(alice) for _ in range(5)][::-1]

        with CaptureQueriesContext(connection) as queries:
            browser.get(f"/orders/?before={orders[2].pk}")

        ours = [query["sql"] for query in queries if "orders_order" in query["sql"]]
        assert len(ours) == 1
        assert not re.search("COUNT|OFFSET|orders_orderline", ours[0])

    def test_shows_the_time_zone_of_each_time(self, browser, order):
        """Failed: an order of this morning in Tokyo had the date of yesterday, without a zone."""
        Order.objects.update(placed_at="2026-11-30T23:10Z")

        page = browser.get("/orders/").content.decode()
        japanese = browser.get("/orders/", headers={"Accept-Language": "ja"}).content.decode()

        time = '<time datetime="2026-11-30T23:10:00+00:00">'
        assert f"{time}Nov. 30, 2026, 11:10 p.m. UTC</time>" in page
        assert f"{time}2026年11月30日23:10 UTC</time>" in japanese

    @pytest.mark.parametrize("before", ["x", "", "1"])
    def test_begins_again_at_an_unknown_place(self, browser, order, before):
        assert order.reference in browser.get(f"/orders/?before={before}").content.decode()


class TestAnOrderOfSomebodyElse:
    @pytest.mark.parametrize("part", ["", "status/"])
    @pytest.mark.parametrize("rights", [{}, {"is_staff": True, "is_superuser": True}])
    def test_does_not_exist(self, order, part, rights):
        other = User.objects.create_user("mallory", "mallory@example.com", **rights)

        answer = signed_in(other).get(f"/orders/{order.pk}/{part}")

        assert answer.status_code == 404

    @pytest.mark.parametrize("part", ["cancel/", "again/"])
    @pytest.mark.parametrize("rights", [{}, {"is_staff": True, "is_superuser": True}])
    def test_is_not_changed(self, order, part, rights):
        other = User.objects.create_user("mallory", "mallory@example.com", **rights)

        answer = signed_in(other).post(f"/orders/{order.pk}/{part}")

        assert answer.status_code == 404
        assert Order.objects.get().status == "placed"

    def test_is_not_listed(self, order):
        page = signed_in(customer("mallory")).get("/orders/").content.decode()

        assert order.reference not in page

    def test_looks_like_one_that_was_never_placed(self, browser):
        assert browser.get(f"/orders/{uuid4()}/").status_code == 404


class TestAVisitor:
    def test_signs_in_to_see_an_order(self, client, order):
        answer = client.get(f"/orders/{order.pk}/")

        assert answer.headers["Location"].startswith("/account/sign-in/?next=")

    def test_whose_session_ended_reloads_the_page_that_follows_an_order(self, client, order):
        answer = client.get(f"/orders/{order.pk}/status/", headers={"HX-Request": "true"})

        assert answer.headers["HX-Refresh"] == "true"


class TestACancellation:
    @pytest.mark.parametrize("part", ["cancel", "again"])
    def test_of_a_visitor_leads_to_the_order_after_the_sign_in(self, client, order, part):
        answer = client.post(f"/orders/{order.pk}/{part}/")

        assert answer.headers["Location"] == f"/account/sign-in/?next=%2Forders%2F{order.pk}%2F"

    def test_is_made_once_by_two_clicks(self, browser, order):
        for _ in range(2):
            browser.post(f"/orders/{order.pk}/cancel/")

        assert Order.objects.get().cancel_reason == "requested"
        assert Event.objects.filter(name="orders.OrderCancelled").count() == 1

    def test_is_shown_again_after_its_answer_was_erased(self, browser, alice, order):
        """Failed: the page showed an error about an Idempotency-Key."""
        browser.post(f"/orders/{order.pk}/cancel/")
        erase_answers_of(alice.pk)

        answer = browser.post(f"/orders/{order.pk}/cancel/", follow=True)

        page = answer.content.decode()
        assert "Cancelled, as you asked." in page
        assert "Idempotency-Key" not in page

    def test_of_a_shipped_order_is_refused_with_the_reason(self, browser, order):
        Order.objects.filter(pk=order.pk).update(status="shipped")

        answer = browser.post(f"/orders/{order.pk}/cancel/", follow=True)

        assert "shipped already, so it cannot be cancelled" in answer.content.decode()
        assert Order.objects.get().status == "shipped"


class TestAnOrderThatIsOrderedAgain:
    def test_fills_the_basket(self, browser, order):
        browser.post(f"/orders/{order.pk}/again/")

        assert basket_of(browser) == {"TEA": 1}

    def test_adds_to_what_is_in_the_basket(self, browser, order):
        put_into_basket(browser, product("WHISK"))
        put_into_basket(browser, "TEA", 2)

        browser.post(f"/orders/{order.pk}/again/")

        assert basket_of(browser) == {"WHISK": 1, "TEA": 3}

    def test_says_which_units_did_not_fit(self, browser, order):
        put_into_basket(browser, "TEA", 99)

        page = browser.post(f"/orders/{order.pk}/again/", follow=True).content.decode()

        assert "Not all units fit into your basket: Green tea." in page
