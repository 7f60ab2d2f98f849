# No `from __future__ import annotations`: pydantic sees the local classes of tests.
"""The page of the sinks: their list, and the exact message of an event."""

import html
from collections.abc import Callable
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from outbox import DomainEvent, Sensitive, subscribe
from outbox.models import Event
from outbox.testing import Outbox
from tests.outbox.admin.test_permissions import user
from tests.outbox.sinks.conftest import PASSWORD, configure

__all__ = ["configure"]

PAGE = reverse("admin:outbox_event_sinks")
SENSITIVE = reverse("admin:outbox_event_sinks_sensitive")
SECRET = "hanako@example.co.jp"
PARCEL = UUID(int=7)
VIEW = ("view_event", "view_subscription")

Configure = Callable[..., None]


@pytest.fixture
def event(own_registry: None, no_nudge: None) -> Event:
    class ParcelSent(DomainEvent, key="parcel_id"):
        parcel_id: UUID
        email: Sensitive[str]
        note: str = ""

    @subscribe("tests.ParcelSent", name="sinks.analytics")
    def analytics() -> None: ...

    outbox = Outbox()
    outbox.given("tests.ParcelSent", parcel_id=PARCEL, email=SECRET, note="<b>fragile</b>")
    return Event.objects.get()


def text_of(client: Client, address: str, **query: str) -> str:
    answer = client.get(address, query)
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


class TestThePage:
    def test_lists_the_sinks(self, event: Event, configure: Configure, admin_client: Client):
        configure(TOPIC="parcels.{app}")

        text = text_of(admin_client, PAGE)

        assert f'<a href="{PAGE}?name=analytics">analytics</a>' in text
        assert "parcels.{app}" in text
        assert "running" in text
        assert PASSWORD not in text

    def test_shows_the_message(self, event: Event, configure: Configure):
        configure()

        text = text_of(user("looker", *VIEW), PAGE, name="analytics")

        assert f'"parcel_id":"{PARCEL}"' in text
        assert '"note":"<b>fragile</b>"' in text
        assert "tests.ParcelSent.v1" in text
        assert str(event.id) in text
        assert "Exactly this is sent. Nothing was sent now." in text
        assert SECRET not in text
        assert PASSWORD not in text

    def test_names_a_mapper_that_fails(
        self, event: Event, configure: Configure, admin_client: Client
    ):
        configure(FORMAT="tests.outbox.sinks.mappers.as_total")

        text = text_of(admin_client, PAGE, name="analytics")

        assert f"mappers.as_total raised KeyError for the event {event.id}" in text

    def test_escapes_the_message(self, event: Event, configure: Configure, admin_client: Client):
        configure()

        page = admin_client.get(PAGE, {"name": "analytics"}).content.decode()

        assert "<b>fragile" not in page

    def test_shows_an_example_without_an_event(
        self, event: Event, configure: Configure, admin_client: Client
    ):
        configure()
        Event.objects.all().delete()

        assert "An example, built from" in text_of(admin_client, PAGE, name="analytics")

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ("7", "Enter the id of an event, a UUID."),
            (str(UUID(int=8)), "It may have been pruned"),
        ],
    )
    def test_explains_why_there_is_no_message(
        self, event: Event, configure: Configure, admin_client: Client, given, text
    ):
        configure()

        assert text in text_of(admin_client, PAGE, name="analytics", event=given)

    def test_explains_invalid_settings(
        self, event: Event, configure: Configure, admin_client: Client
    ):
        configure(TOPICS="x")

        assert "has no key 'TOPICS'" in text_of(admin_client, PAGE)

    def test_knows_only_configured_sinks(
        self, event: Event, configure: Configure, admin_client: Client
    ):
        configure()

        assert admin_client.get(PAGE, {"name": "search"}).status_code == 404

    def test_is_linked_from_the_page_of_handlers(self, event: Event, configure: Configure):
        configure()
        handlers = reverse("admin:outbox_subscription_handlers")
        link = f"{PAGE}?name=analytics"

        assert link in text_of(user("looker", *VIEW), handlers)
        assert link not in text_of(user("other", "view_subscription"), handlers)


class TestASinkThatSendsSensitiveFields:
    def test_shows_them_only_by_a_logged_post(self, event: Event, configure: Configure):
        configure(SENSITIVE=True)
        client = user("keeper", "view_event", "view_sensitive")

        before = text_of(client, PAGE, name="analytics")
        answer = client.post(SENSITIVE, {"name": "analytics", "event": ""})

        assert SECRET not in before
        assert "This sink sends sensitive fields. The access is logged." in before
        assert SECRET in answer.content.decode()
        assert f'<a href="{PAGE}?name=analytics">' in answer.content.decode()
        entry = LogEntry.objects.get()
        assert entry.user == User.objects.get(username="keeper")
        assert entry.object_id == str(event.pk)
        assert '"analytics"' in entry.change_message

    def test_hides_them_without_the_permission(self, event: Event, configure: Configure):
        configure(SENSITIVE=True)
        client = user("looker", *VIEW)

        text = text_of(client, PAGE, name="analytics")

        assert SECRET not in text
        assert "The message is shown only to users who may see them." in text
        assert client.post(SENSITIVE, {"name": "analytics"}).status_code == 403
        assert LogEntry.objects.count() == 0

    def test_is_not_shown_by_a_link(self, event: Event, configure: Configure):
        configure(SENSITIVE=True)
        client = user("keeper", "view_event", "view_sensitive")

        assert client.get(SENSITIVE, {"name": "analytics"}).status_code == 405
