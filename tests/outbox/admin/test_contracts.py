"""The page of contracts, and the document that it offers."""

# No `from __future__ import annotations`: pydantic sees the local classes of tests.

import json
import re
from pathlib import Path
from typing import Any, Optional
from uuid import UUID

import pytest
from django.test import Client
from django.urls import reverse
from pydantic import BaseModel, Field

import outbox
from outbox import DomainEvent, Sensitive, subscribe
from outbox.contracts.asyncapi import document
from outbox.contracts.asyncapi.outline import ChannelRow, channel_rows

pytestmark = pytest.mark.django_db

URL = reverse("admin:outbox_minute_contracts")
DOWNLOAD = reverse("admin:outbox_minute_contracts_download")
SINK = {
    "BACKEND": "tests.outbox.sinks.memory.MemorySink",
    "EVENTS": ["tests.ParcelSent"],
    "OPTIONS": {"password": "hunter2"},
    "TOPIC": "parcels",
}


class Box(BaseModel):
    label: str
    inner: Optional["Box"] = None


@pytest.fixture(autouse=True)
def parcels(own_registry: None) -> None:
    class ParcelSent(DomainEvent, key="parcel_id"):
        """A parcel left the house, with <script>alert(1)</script> on it."""

        parcel_id: UUID = Field(description="Its number.")
        boxes: list[Box]
        email: Sensitive[str]
        weight: int | None = None

    @subscribe("tests.ParcelSent")
    def record(parcel_id: UUID) -> None: ...


def page_of(client: Client) -> str:
    return client.get(URL).content.decode()


def the_channel(name: str) -> ChannelRow:
    return next(one for one in channel_rows(document()) if one.id == name)


class TestAChannel:
    def test_has_those_who_send_and_receive(self):
        channel = the_channel("internal.tests.ParcelSent")

        assert channel.is_internal
        assert channel.senders == ["emit tests.ParcelSent"]
        assert channel.receivers == ["tests.record"]

    def test_of_a_sink_is_shown_first_with_its_server(self, settings: Any):
        settings.OUTBOX = {"SINKS": {"out": SINK}, "SOURCE": "/parcels"}

        first = next(channel_rows(document()))

        assert (first.id, first.address, first.is_internal) == ("out.parcels", "parcels", False)
        assert first.servers == ["memory://{host}"]
        assert first.senders == ["publish to out"]

    def test_has_the_fields_of_its_messages(self):
        [message] = the_channel("internal.tests.ParcelSent").messages

        assert [(one.name, one.type, one.is_required) for one in message.fields] == [
            ("parcel_id", "a string (uuid)", True),
            ("boxes", "a list", True),
            ("boxes[].label", "a string", True),
            ("boxes[].inner", "an object (Box) or null", False),
            ("email", "a string", True),
            ("weight", "an integer or null", False),
        ]
        assert message.fields[0].description == "Its number."
        assert [one.name for one in message.fields if one.is_sensitive] == ["email"]

    def test_has_the_headers_and_an_example(self, settings: Any):
        settings.OUTBOX = {"SINKS": {"out": SINK}, "SOURCE": "/parcels"}

        [message] = the_channel("out.parcels").messages

        headers = {one.name: one.type for one in message.headers}
        assert headers["ce-type"] == '"tests.ParcelSent.v1"'
        assert "email" not in json.loads(message.example)


class TestThePage:
    def test_shows_channels_messages_fields_and_examples(self, admin_client: Client):
        page = page_of(admin_client)

        for text in ("tests.ParcelSent.v1", "boxes[].label", "a string (uuid)", "Its number."):
            assert text in page
        assert "&quot;parcel_id&quot;: &quot;0197f2a4-" in page

    def test_has_no_script_of_its_own(self, admin_client: Client):
        """A strict policy forbids inline scripts and styles, and addresses elsewhere."""
        folder = Path(outbox.__file__).parent
        template = (folder / "templates/admin/outbox/minute/contracts.html").read_text()
        main = page_of(admin_client).partition('<div id="content-main">')[2]

        assert "<script>alert(1)" not in main
        assert not re.search(r"<script|<style|\bstyle=|\bon\w+=|https?://", template)

    def test_names_no_credentials(self, admin_client: Client, settings: Any):
        settings.OUTBOX = {"SINKS": {"out": SINK}, "SOURCE": "/parcels"}

        assert "hunter2" not in page_of(admin_client)
        assert "hunter2" not in admin_client.get(DOWNLOAD).content.decode()

    def test_shows_why_there_is_no_document(self, admin_client: Client, settings: Any):
        settings.OUTBOX = {"SINKS": {"out": {**SINK, "TOPIC": "{topic}"}}, "SOURCE": "/parcels"}

        page = page_of(admin_client)

        assert "has the unknown placeholder {topic}" in page
        assert "hunter2" not in page
        assert admin_client.get(DOWNLOAD).headers["Location"] == URL

    def test_is_linked_from_the_overview(self, admin_client: Client):
        overview = admin_client.get(reverse("admin:outbox_minute_changelist")).content.decode()

        assert f'href="{URL}"' in overview

    def test_makes_no_query_of_events(
        self, admin_client: Client, django_assert_max_num_queries: Any
    ):
        with django_assert_max_num_queries(4):  # session and user
            admin_client.get(URL)


class TestTheDownload:
    def test_is_the_document(self, admin_client: Client):
        response = admin_client.get(DOWNLOAD)

        assert json.loads(response.content) == document()
        assert response.headers["Content-Disposition"] == 'attachment; filename="asyncapi.json"'

    def test_may_leave_out_internal_channels(self, admin_client: Client):
        response = admin_client.get(DOWNLOAD, {"external": "1"})

        assert json.loads(response.content) == document(internal=False)
