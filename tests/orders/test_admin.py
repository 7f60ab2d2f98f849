from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from orders import services
from orders.models import Order
from outbox.testing import Outbox
from tests.inventory.factories import put_on_sale
from tests.orders.factories import customer, place

pytestmark = pytest.mark.django_db


@pytest.fixture
def order(outbox: Outbox) -> Order:
    put_on_sale(price=12800)
    order = place()
    services.record_stock_reserved(order_id=order.id)
    services.record_payment_authorized(order_id=order.id)
    services.release_for_shipping(order_id=order.id)
    return order


def act(client: Client, action: str, order: Order, **more: str) -> Any:
    chosen = {"action": action, "_selected_action": str(order.pk)}
    return client.post("/admin/orders/order/", chosen | more, follow=True)


class TestOrderList:
    def test_shows_reference_status_and_total(self, admin_client: Client, order: Order):
        page = admin_client.get("/admin/orders/order/").content.decode()

        assert order.reference in page
        assert "ready to ship" in page
        assert "¥12,800" in page

    @pytest.mark.parametrize("field", ["reference", "id", "email"])
    def test_finds_an_order(self, admin_client: Client, order: Order, field: str):
        page = admin_client.get("/admin/orders/order/", {"q": getattr(order, field)})

        assert order.reference in page.content.decode()


class TestOrderPage:
    def test_shows_lines_and_history(self, admin_client: Client, order: Order):
        page = admin_client.get(f"/admin/orders/order/{order.pk}/change/").content.decode()

        assert "¥12,800" in page
        assert "payments.PaymentCaptured" in page

    def test_shows_the_timeline_and_failed_deliveries(
        self, admin_client: Client, order: Order, outbox: Outbox
    ):
        outbox.given("payments.PaymentDeclined", order_id=order.id, reason="card_expired")
        Order.objects.filter(pk=order.pk).update(status="received")
        outbox.deliver_all(only="orders", raise_errors=False)

        page = admin_client.get(f"/admin/orders/order/{order.pk}/change/").content.decode()

        assert "orders.OrderReadyToShip" in page
        assert "orders.cancel_for_declined_payment" in page
        assert "InvalidTransition" in page

    def test_is_read_only(self, admin_client: Client, order: Order):
        url = f"/admin/orders/order/{order.pk}/"

        edited = admin_client.post(f"{url}change/", {"status": "received"})
        deleted = admin_client.post(f"{url}delete/", {"post": "yes"})

        assert (edited.status_code, deleted.status_code) == (403, 403)


class TestActions:
    def test_ship_and_receive(self, admin_client: Client, order: Order, outbox: Outbox):
        act(admin_client, "mark_as_shipped", order, carrier="Kuroneko", tracking_number="4711")
        act(admin_client, "mark_as_received", order)

        order.refresh_from_db()
        assert order.status == "received"
        assert outbox.emitted("orders.OrderShipped").tracking_number == "4711"

    def test_ship_with_the_texts_that_the_api_takes(
        self, admin_client: Client, order: Order, outbox: Outbox
    ):
        """Failed: the order, its events and its e-mail had a carrier of three spaces."""
        act(admin_client, "mark_as_shipped", order, carrier="   ", tracking_number=" 4711 ")

        shipped = outbox.emitted("orders.OrderShipped")
        assert (shipped.carrier, shipped.tracking_number) == ("", "4711")

    def test_refuse_a_text_that_disguises_itself(self, admin_client: Client, order: Order):
        """Failed: what follows U+202E was shown from right to left, also to the customer."""
        page = act(admin_client, "mark_as_shipped", order, carrier="Yamato\u202e").content.decode()

        order.refresh_from_db()
        assert order.status == "ready_to_ship"
        assert "No order is changed. Carrier: This field must not contain line breaks" in page
        assert "orders changed" not in page

    def test_report_refused_orders(self, admin_client: Client, order: Order):
        page = act(admin_client, "mark_as_received", order).content.decode()

        order.refresh_from_db()
        assert order.status == "ready_to_ship"
        assert f"{order.reference} is ready to ship, so this is not possible." in page

    def test_need_the_permission_to_ship(self, client: Client, order: Order):
        clerk = customer("clerk", is_staff=True)
        clerk.user_permissions.add(Permission.objects.get(codename="view_order"))
        client.force_login(clerk)

        act(client, "mark_as_shipped", order)
        order.refresh_from_db()
        assert order.status == "ready_to_ship"

        clerk.user_permissions.add(Permission.objects.get(codename="ship_order"))
        act(client, "mark_as_shipped", order)
        order.refresh_from_db()
        assert order.status == "shipped"

    def test_cancel_orders_that_are_not_shipped(
        self, admin_client: Client, order: Order, outbox: Outbox
    ):
        act(admin_client, "cancel", order)

        order.refresh_from_db()
        assert (order.status, order.cancel_reason) == ("cancelled", "requested")

    def test_record_the_id_of_the_user(self, admin_client: Client, order: Order, admin_user: User):
        """Failed: the history had the user's name, which may be an address, beyond an erasure."""
        act(admin_client, "refund_what_is_left", order)
        act(admin_client, "cancel", order)

        named = f"user:{admin_user.pk}"
        assert order.history.latest("id").cause == f"orders.cancel_order by {named}"
        assert order.refunds.get().requested_by == named
        page = admin_client.get(f"/admin/orders/order/{order.pk}/change/").content.decode()
        assert "orders.cancel_order by <a" in page
        assert f">{admin_user.username}</a>" in page[page.index("history-group") :]

    def test_report_that_a_shipped_order_cannot_be_cancelled(
        self, admin_client: Client, order: Order
    ):
        act(admin_client, "mark_as_shipped", order)

        page = act(admin_client, "cancel", order).content.decode()

        assert f"{order.reference} is shipped, so this is not possible." in page

    def test_refund_the_remaining_amount(self, admin_client: Client, order: Order, outbox: Outbox):
        act(admin_client, "refund_what_is_left", order, return_stock="on")

        asked = outbox.emitted("orders.RefundRequested")
        assert (asked.amount, len(asked.returned)) == (order.total, 1)

    def test_report_that_nothing_is_left_to_refund(self, admin_client: Client, order: Order):
        """Seen to fail while the order's status was given for the reason."""
        act(admin_client, "refund_what_is_left", order)

        page = act(admin_client, "refund_what_is_left", order).content.decode()

        assert f"{order.reference}: There is nothing to refund: no amount is left" in page

    @pytest.mark.parametrize("action", ["cancel", "refund_what_is_left"])
    def test_that_refund_need_their_own_permission(self, client: Client, order: Order, action: str):
        clerk = customer("clerk", is_staff=True)
        for right in ("view_order", "ship_order"):
            clerk.user_permissions.add(Permission.objects.get(codename=right))
        client.force_login(clerk)

        act(client, action, order)

        order.refresh_from_db()
        assert order.status == "ready_to_ship"
        assert not order.refunds.exists()


class TestTheConditionOfAnOrder:
    @pytest.fixture
    def failing(self, outbox: Outbox, order: Order, monkeypatch: pytest.MonkeyPatch) -> Order:
        """An order whose stock cannot be issued: the handler raises."""
        failed = place()

        def refuse(**_facts: Any) -> None:
            raise ZeroDivisionError("division by zero")

        monkeypatch.setattr("inventory.services.reserve_stock", refuse)
        outbox.deliver_all(only="inventory", raise_errors=False)
        return failed

    def test_is_a_badge_in_the_list(self, admin_client: Client, failing: Order):
        page = admin_client.get("/admin/orders/order/").content.decode()

        assert 'outbox-badge outbox-failing"' in page
        assert 'aria-hidden="true">▲</span> failing</span>' in page

    def test_is_a_filter_of_the_list(self, admin_client: Client, failing: Order):
        found = admin_client.get("/admin/orders/order/", {"condition": "failing"})

        assert failing in found.context["cl"].result_list

    def test_is_overdue_after_the_orders_own_deadline(self, admin_client: Client, order: Order):
        Order.objects.filter(pk=order.pk).update(deadline_at=timezone.now())

        found = admin_client.get("/admin/orders/order/", {"condition": "overdue"})
        page = admin_client.get(f"/admin/orders/order/{order.pk}/change/").content.decode()

        assert list(found.context["cl"].result_list) == [order]
        assert "The order waits for shipping, and its deadline passed at" in page

    def test_is_explained_at_the_top_of_its_page(self, admin_client: Client, failing: Order):
        page = admin_client.get(f"/admin/orders/order/{failing.pk}/change/").content.decode()

        top = page[: page.index('id="order_form"')]
        assert "inventory.reserve_stock, since 20" in top
        assert "ZeroDivisionError: division by zero" in top
        assert "Retry now" in top


class TestTheSearch:
    SEARCH = "/admin/outbox/minute/search/"

    @pytest.mark.parametrize("of", ["reference", "id", "email"])
    def test_leads_to_the_order(self, admin_client: Client, order: Order, of: str):
        answer = admin_client.post(self.SEARCH, {"term": str(getattr(order, of))})

        assert answer["Location"] == f"/admin/orders/order/{order.pk}/change/"

    def test_accepts_a_reference_in_any_spelling(self, admin_client: Client, order: Order):
        spelling = order.reference.replace("-", "").lower()

        answer = admin_client.post(self.SEARCH, {"term": spelling})

        assert answer["Location"] == f"/admin/orders/order/{order.pk}/change/"

    def test_shows_no_order_without_the_permission_to_view_orders(
        self, client: Client, order: Order
    ):
        client.force_login(customer("clerk", is_staff=True))

        answer = client.post(self.SEARCH, {"term": order.email})

        assert answer.status_code == 200
        assert "Nothing that you may view matches" in answer.content.decode()

    def test_serves_the_command_why(self, order: Order, capsys: pytest.CaptureFixture[str]):
        call_command("outbox", "why", order.reference)

        assert "orders.OrderReadyToShip" in capsys.readouterr().out


class TestAmounts:
    def test_are_money_on_the_page_of_an_order(self, admin_client: Client, order: Order):
        page = admin_client.get(f"/admin/orders/order/{order.pk}/change/").content.decode()

        assert "¥12,800" in page[: page.index("outbox-mermaid")]
        assert "In minor units" not in page
