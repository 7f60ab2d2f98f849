"""The monitor's pages and `outbox why` name the tenant of an event, and find its events."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from outbox import DomainEvent, emit, subscribe
from outbox.monitor import tenants as monitored
from outbox.testing import Outbox
from tests.outbox.command import outbox_command
from tests.outbox.drive import run_pass
from tests.outbox.parcels import DELIVERIES, EVENTS, text_of

from . import hooks

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Moved(DomainEvent, key="box"):
    box: str


@pytest.fixture
def moved(tenants: None) -> None:
    """An event of acme and one of bolt, each with an owed delivery, and one without a tenant."""

    @subscribe("tests.Moved", name="tests.see")
    def see() -> None: ...

    Outbox()
    for tenant, box in (("acme", "box-of-a"), ("bolt", "box-of-b"), (None, "box-of-n")):
        with hooks.restore(tenant), transaction.atomic():
            emit(Moved(box=box))
    run_pass()


class TestTheLists:
    @pytest.mark.parametrize("url", [EVENTS, DELIVERIES])
    def test_can_be_filtered_by_tenant(self, url: str, moved: None, admin_client: Client):
        whole, filtered = text_of(admin_client, url), text_of(admin_client, f"{url}?tenant=bolt")

        assert all(box in whole for box in ("box-of-a", "box-of-b", "box-of-n"))
        assert "?tenant=acme" in whole
        assert "box-of-b" in filtered
        assert "box-of-a" not in filtered
        assert "box-of-n" not in filtered

    @pytest.mark.parametrize("url", [EVENTS, DELIVERIES])
    def test_offer_no_filter_without_tenants(self, url: str, admin_client: Client):
        with CaptureQueriesContext(connection) as queries:
            text = text_of(admin_client, url)

        assert "tenant=" not in text
        assert not [one for one in queries if "RECURSIVE found" in one["sql"]]

    def test_of_events_shows_the_tenant(self, moved: None, admin_client: Client):
        assert f'<a href="{EVENTS}?tenant=acme">acme</a>' in text_of(admin_client, EVENTS)


class TestThePages:
    def test_of_an_event_and_its_delivery_name_the_tenant(self, moved: None, admin_client: Client):
        for url in (EVENTS, DELIVERIES):
            [row] = admin_client.get(f"{url}?tenant=acme").context["cl"].result_list
            assert f'<a href="{EVENTS}?tenant=acme">acme</a>' in text_of(
                admin_client, f"{url}{row.pk}/change/"
            )

    def test_of_a_delayed_event_names_the_tenant(self, tenants: None, admin_client: Client):
        with hooks.restore("acme"), transaction.atomic():
            pk = emit(Moved(box="box-of-a"), delay=timedelta(days=1))

        assert "acme" in text_of(
            admin_client, EVENTS.replace("/event/", "/delayedevent/") + f"{pk}/change/"
        )

    def test_of_an_event_without_a_tenant_has_no_field_for_it(
        self, moved: None, admin_client: Client
    ):
        rows = admin_client.get(EVENTS).context["cl"].result_list
        [pk] = [row.pk for row in rows if row.tenant is None]

        assert "field-tenant_shown" not in text_of(admin_client, f"{EVENTS}{pk}/change/")


class TestTheSearch:
    def test_finds_the_events_of_a_tenant(self, moved: None, admin_client: Client):
        found = admin_client.post(EVENTS.replace("event/", "minute/search/"), {"term": "acme"})

        assert found.status_code == 302
        assert found.url == f"{EVENTS}?tenant=acme"  # type: ignore[attr-defined]  # a redirect's

    def test_lists_each_tenant_once_in_alphabetical_order(
        self, moved: None, monkeypatch: pytest.MonkeyPatch
    ):
        with hooks.restore("acme"), transaction.atomic():
            emit(Moved(box=uuid4().hex))

        assert monitored.known(using="default") == ["acme", "bolt"]
        monkeypatch.setattr(monitored, "MOST", 1)
        assert monitored.known(using="default") == ["acme"]


class TestWhy:
    def test_names_the_tenant_of_an_event(self, moved: None):
        assert "tests.Moved box-of-a, tenant acme" in outbox_command("why", "box-of-a")
        assert "tenant" not in outbox_command("why", "box-of-n")

    def test_explains_the_owed_events_of_a_tenant(self, moved: None):
        text = outbox_command("why", "acme")

        assert "tests.Moved box-of-a" in text
        assert "box-of-b" not in text
