"""The page of the map: what causes what, problems, and its parts."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django.asserts import assertContains

from outbox.admin.event_map import network
from outbox.counting.minutes import emitter_shares
from outbox.drawing.map import Emission
from outbox.testing import Outbox
from tests.outbox.parcels import packed, subscribe_to_parcels, text_of

MAP = reverse("admin:outbox_subscription_map")


@pytest.fixture
def outbox(own_registry: None, no_nudge: None) -> Outbox:
    outbox = subscribe_to_parcels()
    packed(outbox)
    return outbox


class TestTheNetwork:
    def test_knows_which_handler_emits_an_event(self, outbox: Outbox):
        (one,) = network().emissions

        assert (one.handler, one.event) == ("tests.label_parcel", "tests.Labelled")
        assert isinstance(one, Emission)

    def test_knows_the_share_of_each_emitter(self, outbox: Outbox):
        assert emitter_shares() == {("tests.label_parcel", "tests.Labelled"): 1.0}

    def test_has_the_problems_of_handlers(self, outbox: Outbox):
        assert network().problems == {"tests.weigh_parcel": "1 dead"}


class TestThePage:
    def test_draws_the_emission_and_the_problem(self, outbox: Outbox, admin_client: Client):
        page = text_of(admin_client, MAP)

        assert "tests.label_parcel → tests.Labelled" in page
        assert "tests ✕ 1 dead" in page

    def test_leads_to_the_part_of_a_box_by_a_link(self, outbox: Outbox, admin_client: Client):
        whole = text_of(admin_client, MAP)
        assert f'href="{MAP}?process=tests.weigh_parcel"' in whole

        part = text_of(admin_client, f"{MAP}?process=tests.weigh_parcel")

        assert "tests.Packed → tests.weigh_parcel" in part
        assert "tests.Packed → tests.label_parcel" not in part
        assert "with all its causes and effects" in part

    def test_leads_to_the_rows_of_an_event(self, outbox: Outbox, admin_client: Client):
        part = text_of(admin_client, f"{MAP}?process=tests.Packed")

        assert f'href="{reverse("admin:outbox_event_changelist")}?name=tests.Packed"' in part

    def test_shows_one_app(self, outbox: Outbox, admin_client: Client):
        part = text_of(admin_client, f"{MAP}?app=tests")

        assert "the app tests with its direct causes and effects" in part
        assert re.search(r'<a href="[^"]+\?app=tests" aria-current="true">tests</a>', part)

    @pytest.mark.parametrize("query", [{"app": "nobody"}, {"process": "<script>"}])
    def test_says_that_a_name_is_unknown(
        self, outbox: Outbox, admin_client: Client, query: dict[str, str]
    ):
        answer = admin_client.get(MAP, query)

        assertContains(answer, "No app, event or handler is called")
        assertContains(answer, "tests.Packed → tests.weigh_parcel")
        assert "called <script>" not in answer.content.decode()

    @pytest.mark.parametrize("value", ["\0", "\ud800".encode("utf-8", "surrogatepass"), "'\"><b>"])
    @pytest.mark.parametrize("name", ["app", "process"])
    def test_survives_any_value(
        self, outbox: Outbox, admin_client: Client, name: str, value: str | bytes
    ):
        answer = admin_client.get(MAP, {name: value})

        assert answer.status_code == 200
        assert "'\"><b>" not in answer.content.decode()
