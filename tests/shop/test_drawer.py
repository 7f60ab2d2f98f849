"""The development drawer exists only in a development copy that `manage.py up` has started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone

from orders.events import OrderReceived
from orders.models import Order
from outbox import RequestContextMiddleware, acting_as, correlated, emit
from outbox.models import Delivery, Event
from outbox.testing import Outbox
from shop.drawer.clicks import LABELS, LastClickMiddleware, last_click
from shop.drawer.story import Story, story_of_click, story_of_order
from storefront.urls import urlpatterns
from tests.closed_port import HOST, port_of_nobody
from tests.storefront.factories import checkout_form, customer, product, put_into_basket, signed_in

PAGES_WITHOUT_A_FORM = {
    "storefront:account",
    "storefront:basket",
    "storefront:catalogue",
    "storefront:order",
    "storefront:order_status",
    "storefront:orders",
    "storefront:password_link_sent",
}
#: Prints which parts of the drawer a process of these settings has.
PARTS = """
import json
from django.apps import apps
from django.contrib.staticfiles import finders
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.test import Client
from django.urls import Resolver404, resolve

def has(get, name, error):
    try:
        return get(name) is not None
    except error:
        return False

print(json.dumps({
    "app": apps.is_installed("shop.drawer"),
    "story": has(resolve, "/development/story/", Resolver404),
    "faults": has(resolve, "/development/faults/kill-worker/", Resolver404),
    "templates": has(get_template, "drawer/drawer.html", TemplateDoesNotExist),
    "static": any(finders.find(f"drawer/drawer.{kind}") for kind in ("css", "js")),
}))
"""
PRODUCTION = {
    "ALLOWED_HOSTS": "shop.example.com",
    "SECRET_KEY": "x" * 60,
    "DATABASE_URL": "postgres://shop:secret@db.example.com/shop",
}


def parts(folder: Path, **environment: str) -> dict[str, bool]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v0", "-c", PARTS],
        cwd=settings.BASE_DIR,
        env={**kept, "SHOP_LOCAL_DIR": str(folder), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, bool] = json.loads(done.stdout)
    return found


@pytest.mark.once
class TestTheDrawer:
    def test_exists_in_a_development_copy_that_up_has_started(self, tmp_path):
        found = parts(tmp_path, DEBUG="true", UP_CONTROL=str(tmp_path))

        assert set(found.values()) == {True}

    @pytest.mark.parametrize(
        "environment",
        [
            pytest.param({**PRODUCTION, "DEBUG": "true"}, id="production, with DEBUG by mistake"),
            pytest.param(PRODUCTION, id="production"),
            pytest.param({"DEBUG": "false", "SECRET_KEY": "x" * 60}, id="without DEBUG"),
            pytest.param({"DEBUG": "true", "UP_CONTROL": ""}, id="not started by up"),
        ],
    )
    def test_is_absent_elsewhere(self, tmp_path, environment):
        """Neither app, addresses, templates nor static files, although the variable is set."""
        found = parts(tmp_path, **{"UP_CONTROL": str(tmp_path), **environment})

        assert set(found.values()) == {False}

    @pytest.mark.django_db
    def test_is_no_part_of_a_page_without_it(self, client):
        page = client.get("/").content.decode()

        assert "drawer" not in page
        assert "in-development" not in page


@pytest.mark.django_db
def test_a_click_remembers_the_correlation_id_of_its_events(rf):
    """A header with the id of another customer's order is replaced. Seen to be remembered."""
    emitted_under = uuid4()
    with correlated(emitted_under), acting_as("user:7"), transaction.atomic():
        emit(OrderReceived(order_id=uuid4()))
    request = rf.post("/sign-out/", headers={"X-Correlation-ID": str(emitted_under)})
    request.session, request.resolver_match = {}, SimpleNamespace(view_name="storefront:sign_out")

    def view(_request):
        with transaction.atomic():
            emit(OrderReceived(order_id=uuid4()))
        return HttpResponse()

    remembering: Any = LastClickMiddleware(view)
    response = RequestContextMiddleware(remembering)(request)

    click = last_click(request.session)
    assert click is not None
    assert str(click.correlation_id) == response["X-Correlation-ID"] != str(emitted_under)


@pytest.fixture
def order(db: None) -> Order:
    client = signed_in(customer())
    put_into_basket(client, product())
    client.post("/checkout/", checkout_form(client))
    return Order.objects.get()


def correlation_id() -> UUID:
    return Event.objects.get(name="orders.OrderPlaced").correlation_id


def put_off(by: timedelta) -> None:
    """Set when the payment is tried again; a busy machine may need longer than its backoff."""
    asking = Delivery.objects.filter(subscription__handler="payments.authorize_payment")
    asking.update(due_at=timezone.now() + by)


def call(story: Story, handler: str) -> Any:
    return next(one for event in story.happenings for one in event.calls if one.handler == handler)


class TestAClick:
    def test_on_each_form_of_the_storefront_has_a_label(self):
        forms = {f"storefront:{one.name}" for one in urlpatterns} - PAGES_WITHOUT_A_FORM

        assert set(LABELS) == forms


class TestTheStoryOfAClick:
    def test_of_a_click_without_events_is_empty(self, db):
        assert story_of_click(uuid4()).happenings == []

    def test_begins_with_an_event_that_waits_for_the_relay(self, order):
        story = story_of_click(correlation_id())

        assert [(one.name, one.is_fanned_out) for one in story.happenings] == [
            ("orders.OrderPlaced", False)
        ]
        assert story.summary == "1 event, 0 handler calls."

    def test_counts_the_calls_by_their_state(self, order, outbox: Outbox):
        outbox.deliver_all(only="inventory.reserve_stock")

        story = story_of_click(correlation_id())

        assert story.summary == "2 events, 5 handler calls: 1 done, 4 waiting."

    def test_shows_events_with_their_causes(self, order, outbox: Outbox):
        outbox.deliver_all(only="inventory.reserve_stock")

        story = story_of_click(correlation_id())

        assert [(one.words, one.depth) for one in story.happenings] == [
            ("Order placed: 1 of TEA, for ¥1,280", 0),
            ("Stock reserved for all lines of the order", 1),
        ]
        assert call(story, "inventory.reserve_stock").look == "done"

    def test_shows_a_failed_attempt_and_the_time_of_the_next(self, order, outbox: Outbox, settings):
        """No bank listens there."""
        settings.BANK_URL = f"http://{HOST}:{port_of_nobody()}"
        outbox.deliver_all(only="payments.authorize_payment", raise_errors=False)
        put_off(timedelta(hours=1))

        shown = call(story_of_click(correlation_id()), "payments.authorize_payment")

        assert shown.look == "failing"
        assert shown.text.startswith("failed 1 time (GatewayUnavailable), next attempt in ")

    def test_says_that_the_next_attempt_is_now_if_it_is_due(self, order, outbox: Outbox, settings):
        settings.BANK_URL = f"http://{HOST}:{port_of_nobody()}"
        outbox.deliver_all(only="payments.authorize_payment", raise_errors=False)
        put_off(timedelta())

        shown = call(story_of_click(correlation_id()), "payments.authorize_payment")

        assert shown.text == "failed 1 time (GatewayUnavailable), next attempt now"

    def test_of_an_order_is_the_same_by_its_key(self, order):
        by_click, by_order = story_of_click(correlation_id()), story_of_order(order.pk)

        assert by_click == by_order
