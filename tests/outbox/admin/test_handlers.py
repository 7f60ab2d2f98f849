"""The page of handlers and its live part, which is sent only if it has changed."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from outbox import operations, subscribe
from outbox.testing import Outbox

PAGE = reverse("admin:outbox_subscription_handlers")
PART = reverse("admin:outbox_subscription_handlers_part")
HANDLER = "tests.label_parcel"


@pytest.fixture
def outbox(own_registry: None) -> Outbox:
    @subscribe("tests.Sent")
    def label_parcel() -> None: ...

    return Outbox()


class TestTheLivePart:
    def test_is_not_sent_again_if_it_is_unchanged(self, outbox: Outbox, admin_client: Client):
        """Seen to fail where each row had a form, whose token is another one each time."""
        first = admin_client.get(PART)

        again = admin_client.get(PART, headers={"If-None-Match": first["ETag"]})

        assert HANDLER in first.content.decode()
        assert (again.status_code, again.content) == (304, b"")

    def test_is_sent_when_a_handler_is_paused(self, outbox: Outbox, admin_client: Client):
        first = admin_client.get(PART)
        operations.pause(HANDLER, by="user:1", reason="Out of ink")

        again = admin_client.get(PART, headers={"If-None-Match": first["ETag"]})

        assert again.status_code == 200
        assert "Out of ink" in again.content.decode()

    def test_has_buttons_of_the_forms_of_the_page(self, outbox: Outbox, admin_client: Client):
        page = admin_client.get(PAGE).content.decode()

        buttons = set(re.findall(r'<button [^>]*form="([^"]+)"', page))
        forms = set(re.findall(r'<form method="post" id="([^"]+)"', page))

        assert buttons == {"outbox-pause"}
        assert forms == {"outbox-pause", "outbox-resume", "outbox-close_breaker"}
