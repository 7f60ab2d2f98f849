"""The lists of the admin, and the pages of their rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from outbox import subscribe
from outbox.admin import EventAdmin
from outbox.models import Attempt, Delivery, Event, Subscription
from outbox.testing import Outbox
from tests.outbox.parcels import (
    DELIVERIES,
    EVENTS,
    HOSTILE,
    SUBSCRIPTIONS,
    TIMELINE,
    client_with,
    dead_one,
    listed,
    packed,
    page_of,
    subscribe_to_parcels,
    text_of,
)
from tests.outbox.project.freight.models import Parcel


@pytest.fixture
def outbox(own_registry: None) -> Outbox:
    return subscribe_to_parcels()


def pages_of(client: Client, url: str, way: str) -> Iterator[dict[str, Any]]:
    """Follow a list's links to older, or newer, rows."""
    address = url
    while True:
        cl = client.get(address).context["cl"]
        rows = [row.pk for row in cl.result_list]
        yield {"rows": rows, "older": cl.older_url, "newer": cl.newer_url}
        following = cl.older_url if way == "older" else cl.newer_url
        if not following:
            return
        address = url.partition("?")[0] + following


def queries(client: Client, url: str) -> list[str]:
    client.get(url)  # the content types and the session are in their caches now
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return [query["sql"] for query in captured.captured_queries]


class TestTheEventList:
    def test_shows_the_progress_and_the_worst_state(self, outbox, admin_client):
        packed(outbox)

        text = text_of(admin_client, f"{EVENTS}?name=tests.Packed")

        assert "1 of 2 done" in text
        assert '<span class="outbox-badge outbox-dead">' in text
        assert '<span class="outbox-shape" aria-hidden="true">✕</span> dead</span>' in text

    def test_distinguishes_waiting_events_from_unsubscribed_ones(self, outbox, admin_client):
        packed(outbox)
        outbox.given("tests.Packed", parcel_id=uuid4())

        text = text_of(admin_client, EVENTS)

        assert text.count("waits for the relay</td>") == 1
        assert text.count("no subscriber</td>") == 1

    def test_shows_the_latest_first(self, outbox, admin_client):
        first, second = packed(outbox), packed(outbox)

        shown = listed(admin_client, f"{EVENTS}?name=tests.Packed")

        assert shown == [second.pk, first.pk]

    @pytest.mark.parametrize("of", ["key", "id", "correlation_id"])
    def test_finds_by_an_exact_id_in_any_spelling(self, outbox, admin_client, of):
        event = packed(outbox)
        packed(outbox)
        expected = {event.pk} | ({event.pk + 1} if of != "id" else set())
        sought = str(getattr(event, of))

        shown = [listed(admin_client, f"{EVENTS}?q={q}") for q in (sought, sought.upper())]

        assert [set(rows) for rows in shown] == [expected, expected]

    @pytest.mark.parametrize("part", ["tests.Packed", "label_parcel", "scales", "{key:.12}", "%"])
    def test_finds_by_no_part_of_an_id(self, outbox, admin_client, part):
        event = packed(outbox, note="scales")

        shown = listed(admin_client, f"{EVENTS}?q={quote(part.format(key=event.key))}")

        assert shown == []

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("state=dead", {"sick"}),
            ("state=owed", {"sick", "new"}),
            ("state=done", {"sick"}),
            ("state=waiting", {"new"}),
            ("state=parked", set()),
            ("name=tests.Labelled", {"label", "old"}),
            ("app=tests", {"sick", "label", "old", "new"}),
            ("app=orders", set()),
            ("since=1h", {"sick", "label", "new"}),
            ("since=7d", {"sick", "label", "old", "new"}),
        ],
    )
    def test_shows_only_rows_that_match_the_filter(self, outbox, admin_client, query, expected):
        old = outbox.given("tests.Labelled", parcel_id=uuid4())
        Event.objects.filter(pk=old.pk).update(emitted_at=timezone.now() - timedelta(days=2))
        sick = packed(outbox)
        new = outbox.given("tests.Packed", parcel_id=uuid4())
        names = {old.pk: "old", sick.pk: "sick", new.pk: "new"}

        shown = {names.get(pk, "label") for pk in listed(admin_client, f"{EVENTS}?{query}")}

        assert shown == expected

    def test_pages_by_key_without_counting(self, outbox, admin_client, monkeypatch):
        monkeypatch.setattr(EventAdmin, "list_per_page", 2)
        keys = [outbox.given("tests.Packed", parcel_id=uuid4()).pk for _ in range(5)][::-1]

        sent = queries(admin_client, f"{EVENTS}?older={keys[1]}")
        first, second, third = pages = list(pages_of(admin_client, EVENTS, "older"))

        assert [pk for page in pages for pk in page["rows"]] == keys
        assert (first["newer"], third["older"]) == ("", "")
        back = admin_client.get(EVENTS + third["newer"]).context["cl"]
        assert [row.pk for row in back.result_list] == second["rows"]
        assert not [sql for sql in sent if "COUNT(*)" in sql or "OFFSET" in sql]

    def test_pages_through_dead_events_both_ways(self, outbox, admin_client, monkeypatch):
        """However little is looked at a time: a page of three needs two helpings and the rest."""
        monkeypatch.setattr(EventAdmin, "list_per_page", 3)
        monkeypatch.setattr("outbox.admin.event_list.DEAD_EVENT_PAGES", (1, 2))
        keys = [packed(outbox).pk for _ in range(10)][::-1]
        Event.objects.filter(pk__in=keys[1::3]).update(name="tests.Weighed")
        kept = [pk for number, pk in enumerate(keys) if number % 3 != 1]
        address = f"{EVENTS}?state=dead&name=tests.Packed"

        pages = list(pages_of(admin_client, address, "older"))
        back = list(pages_of(admin_client, f"{EVENTS}{pages[-1]['newer']}", "newer"))

        assert [page["rows"] for page in pages] == [kept[:3], kept[3:6], kept[6:]]
        assert [page["rows"] for page in back] == [kept[3:6], kept[:3]]

    def test_keeps_its_filters_from_page_to_page(self, outbox, admin_client, monkeypatch):
        monkeypatch.setattr(EventAdmin, "list_per_page", 1)
        for _ in range(2):
            packed(outbox)

        found = list(pages_of(admin_client, f"{EVENTS}?name=tests.Packed", "older"))

        names = [Event.objects.get(pk=pk).name for page in found for pk in page["rows"]]
        assert names == ["tests.Packed", "tests.Packed"]

    @pytest.mark.parametrize("start", ["older", "newer"])
    def test_begins_a_filter_and_a_search_at_the_first_page(self, outbox, admin_client, start):
        event = packed(outbox)
        number = event.pk + 2 if start == "older" else event.pk - 1

        response = admin_client.get(f"{EVENTS}?name=tests.Packed&{start}={number}")

        cl, text = response.context["cl"], response.content.decode()
        links = [one["query_string"] for spec in cl.filter_specs for one in spec.choices(cl)]
        assert [row.pk for row in cl.result_list] == [event.pk]
        assert "?name=tests.Packed&state=dead" in links
        assert not [one for one in (*links, cl.clear_all_filters_qs) if start in one]
        assert '<input type="hidden" name="name" value="tests.Packed">' in text
        assert f'name="{start}"' not in text

    @pytest.mark.parametrize("query", ["older=1", f"newer={10**18 - 1}"])
    def test_leads_back_from_a_page_without_rows(self, outbox, admin_client, query):
        packed(outbox)

        text = text_of(admin_client, f"{EVENTS}?name=tests.Packed&{query}")

        assert "This page has no rows." in text
        assert '<a href="?name=tests.Packed">Newest</a>' in text

    def test_shows_no_first_steps_on_a_later_page(self, outbox, admin_client):
        packed(outbox)

        response = admin_client.get(f"{EVENTS}?older=1")

        assert "when a transaction that calls emit() commits" not in response.content.decode()
        assert "outbox/getting_started.html" not in [one.name for one in response.templates]

    @pytest.mark.parametrize("page", ["0", "-1", "x", "99", "9" * 30])
    @pytest.mark.parametrize("name", ["p", "older", "newer"])
    def test_survives_a_page_that_does_not_exist(self, outbox, admin_client, name, page):
        packed(outbox)

        response = admin_client.get(f"{EVENTS}?{name}={page}", follow=True)

        assert response.status_code == 200

    def test_shows_the_next_step_if_it_is_empty_or_nothing_matches(self, outbox, admin_client):
        empty, no_delivery = text_of(admin_client, EVENTS), text_of(admin_client, DELIVERIES)
        packed(outbox)
        unmatched = text_of(admin_client, f"{EVENTS}?q=nothing")

        assert "when a transaction that calls emit() commits" in empty
        assert "If events wait, start a relay: a worker of the queue outbox, or manage.py" in (
            no_delivery
        )
        assert "search by an exact key" in unmatched


class TestTheNumberOfQueries:
    @pytest.mark.parametrize("url", [EVENTS, DELIVERIES, SUBSCRIPTIONS])
    def test_does_not_grow_with_the_rows(self, outbox, admin_client, url):
        packed(outbox)
        few = queries(admin_client, url)
        for number in range(10):
            subscribe("tests.Packed", name=f"tests.handler_{number}")(lambda: None)
        outbox = Outbox()
        for _ in range(10):
            packed(outbox)

        many = queries(admin_client, url)

        assert len(many) == len(few) <= 12

    def test_of_an_event_does_not_grow_with_its_deliveries(self, outbox, admin_client):
        few = queries(admin_client, page_of(packed(outbox)))
        for number in range(10):
            subscribe("tests.Packed", name=f"tests.handler_{number}")(lambda: None)

        many = queries(admin_client, page_of(packed(Outbox())))

        assert len(many) == len(few) <= 12

    def test_leaves_payloads_unread_in_lists(self, outbox, admin_client):
        packed(outbox)

        sent = queries(admin_client, EVENTS) + queries(admin_client, DELIVERIES)

        assert not [sql for sql in sent if '"payload"' in sql]


class TestAnEventsPage:
    def test_escapes_a_hostile_payload_and_error(self, outbox, admin_client):
        event = packed(outbox, note=HOSTILE)

        text = text_of(admin_client, page_of(event))

        assert HOSTILE not in text
        assert text.count(escape(HOSTILE)) >= 3  # the payload, the error, its traceback

    def test_links_the_cause_and_names_its_handler(self, outbox, admin_client):
        cause = packed(outbox)
        event = Event.objects.get(name="tests.Labelled")

        text = text_of(admin_client, page_of(event))

        assert f'<a href="{page_of(cause)}">tests.Packed</a>, handled by tests.label_parcel' in text

    def test_links_the_user_who_started_it(self, outbox, admin_client, admin_user):
        event = packed(outbox)
        Event.objects.filter(pk=event.pk).update(actor=f"user:{admin_user.pk}")

        text = text_of(admin_client, page_of(event))

        assert f'<a href="/admin/auth/user/{admin_user.pk}/change/">admin</a>' in text

    def test_names_an_actor_that_is_not_a_user_or_deleted(self, outbox, admin_client):
        event = packed(outbox)
        Event.objects.filter(pk=event.pk).update(actor="user:4711")

        text = text_of(admin_client, page_of(event))

        assert "user:4711 (deleted)" in text

    def test_links_all_events_of_its_correlation_id(self, outbox, admin_client):
        event = packed(outbox)

        text = text_of(admin_client, page_of(event))

        assert f'href="{EVENTS}?q={event.correlation_id}"' in text
        assert len(listed(admin_client, f"{EVENTS}?q={event.correlation_id}")) == 2

    def test_explains_an_unfinished_delivery_with_its_failed_attempt(self, outbox, admin_client):
        event = packed(outbox)

        text = text_of(admin_client, page_of(event))

        assert "1 of 2 deliveries are settled" in text
        assert "the handler refused it" in text
        assert "<details" in text
        assert "Traceback (most recent call last)" in text
        assert f'href="{page_of(dead_one())}">tests.weigh_parcel</a>' in text


class TestADeliveryWithManyFailedRuns:
    def test_says_how_many_although_its_page_shows_the_newest_only(
        self, outbox: Outbox, admin_client: Client
    ):
        """Failed: it counted those that the page shows."""
        packed(outbox)
        row, now = Delivery.objects.get(state="done"), timezone.now()
        Attempt.objects.bulk_create(
            Attempt(
                delivery=row,
                number=number,
                started_at=now,
                ended_at=now,
                outcome="failed",
                traceback=f"Traceback {number}.",
            )
            for number in range(1, 52)
        )

        text = text_of(admin_client, page_of(row))

        assert "after 51 failed runs" in text
        assert "Traceback 51." in text
        assert "Traceback 1." not in text


class TestTheDeliveryList:
    def test_finds_by_number_key_and_event_id(self, outbox, admin_client):
        event = packed(outbox)
        packed(outbox)
        mine = set(event.deliveries.values_list("pk", flat=True))
        one = min(mine)

        by_key = listed(admin_client, f"{DELIVERIES}?q={event.key}")
        by_event = listed(admin_client, f"{DELIVERIES}?q={event.id}")
        by_number = listed(admin_client, f"{DELIVERIES}?q={one}")
        by_part = listed(admin_client, f"{DELIVERIES}?q=tests")

        assert (set(by_key), set(by_event), by_number, by_part) == (mine, mine, [one], [])

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("state=dead", 1),
            ("state=owed", 1),
            ("state=done", 1),
            ("handler=tests.weigh_parcel", 1),
            ("handler=nobody", 0),
            ("due=later", 0),
        ],
    )
    def test_shows_only_rows_that_match_the_filter(self, outbox, admin_client, query, count):
        packed(outbox)

        shown = listed(admin_client, f"{DELIVERIES}?{query}")

        assert len(shown) == count

    @pytest.mark.parametrize(
        ("due", "state", "minutes"),
        [("now", "pending", -1), ("later", "pending", 1), ("lapsed", "sent", -1)],
    )
    def test_distinguishes_due_and_waiting_rows(self, outbox, admin_client, due, state, minutes):
        packed(outbox)
        wanted = dead_one()
        wanted.state, wanted.due_at = state, timezone.now() + timedelta(minutes=minutes)
        wanted.save()

        shown = {
            choice: listed(admin_client, f"{DELIVERIES}?due={choice}")
            for choice in ("now", "later", "lapsed")
        }

        assert shown == {"now": [], "later": [], "lapsed": [], due: [wanted.pk]}


class TestASubscription:
    def test_counts_owed_deliveries_by_state_with_links(self, outbox, admin_client):
        packed(outbox)

        text = text_of(admin_client, SUBSCRIPTIONS)

        assert f'href="{DELIVERIES}?handler=tests.weigh_parcel&amp;state=dead"' in text
        assert "1 dead" in text
        assert "1 done" not in text

    def test_counts_to_a_bound(self, outbox, admin_client, monkeypatch):
        monkeypatch.setattr("outbox.admin.subscriptions._COUNTED", 2)
        for _ in range(4):
            packed(outbox)

        text = text_of(admin_client, SUBSCRIPTIONS)

        assert "over 2 dead" in text

    @pytest.mark.parametrize(
        ("attempts", "policy"),
        [(1, "1 attempt,"), (2, "2 attempts,"), (None, "unlimited attempts,")],
    )
    def test_shows_its_number_of_attempts(self, outbox, admin_client, attempts, policy):
        Subscription.objects.update(attempts=attempts)

        assert f">{policy} backoff" in text_of(admin_client, SUBSCRIPTIONS)

    def test_shows_that_the_code_has_no_such_handler(self, outbox, admin_client):
        Subscription.objects.update(known=False)

        text = text_of(admin_client, SUBSCRIPTIONS)

        assert "the code that was last migrated does not subscribe" in text


class TestRows:
    @pytest.mark.parametrize("model", [Event, Delivery, Subscription])
    def test_cannot_be_added_changed_or_deleted(self, outbox, admin_client, model):
        packed(outbox)
        before = list(model.objects.order_by("pk").values())
        row, name = model.objects.earliest("pk"), f"admin:outbox_{model._meta.model_name}"
        pages = {
            "add": reverse(f"{name}_add"),
            "change": reverse(f"{name}_change", args=[row.pk]),
            "delete": reverse(f"{name}_delete", args=[row.pk]),
        }
        form = {"key": "x", "handler": "x", "state": "done", "post": "yes"}

        posted = [admin_client.post(url, form).status_code for url in pages.values()]
        got = [admin_client.get(pages[page]).status_code for page in ("add", "delete")]
        admin_client.post(
            reverse(f"{name}_changelist"),
            {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"},
        )

        assert (posted, got) == ([403, 403, 403], [403, 403])
        assert list(model.objects.order_by("pk").values()) == before


class Inline(HTMLParser):
    """Collects what a strict Content-Security-Policy would refuse to run or apply."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag == "style" or (tag == "script" and not names.get("src")):
            self.found.append(tag)
        self.found += [
            f"{tag} {name}"
            for name, value in attrs
            if name == "style" or name.startswith("on") or "javascript:" in (value or "").lower()
        ]


class TestEveryPage:
    @pytest.fixture
    def urls(self, outbox: Outbox) -> list[str]:
        parcel = Parcel.objects.create()
        event = packed(outbox, parcel_id=parcel.pk, note=HOSTILE)
        return [
            EVENTS,
            page_of(event),
            DELIVERIES,
            page_of(dead_one()),
            page_of(Delivery.objects.get(state="done")),
            SUBSCRIPTIONS,
            page_of(Subscription.objects.earliest("pk")),
            TIMELINE,
            f"{TIMELINE}?q={event.key}",
            f"{EVENTS}?q=nothing",
            reverse("admin:freight_parcel_change", args=[parcel.pk]),
        ]

    def test_has_no_inline_script_or_style_and_loads_the_outboxs_files(self, urls, admin_client):
        pause = {"action": "pause", "_selected_action": ["1"]}

        texts = [text_of(admin_client, url) for url in urls]
        texts.append(admin_client.post(SUBSCRIPTIONS, pause, follow=True).content.decode())

        for text in texts:
            page = Inline()
            page.feed(text)
            assert page.found == []
            assert "outbox/outbox.css" in text

    def test_is_forbidden_without_permission_and_redirects_to_the_login(self, urls):
        without, anonymous = client_with(), Client()

        refused = {without.get(url).status_code for url in urls}
        sent_away = {anonymous.get(url).status_code for url in urls}

        assert (refused, sent_away) == ({403}, {302})

    def test_is_shown_with_the_view_permission(self, urls):
        viewer = client_with("view_event", "view_delivery", "view_subscription", "view_parcel")

        answers = {viewer.get(url).status_code for url in urls}

        assert answers == {200}

    def test_renders_in_the_users_language(self, urls, admin_client):
        answers = {
            admin_client.get(url, headers={"accept-language": "ja"}).status_code for url in urls
        }

        assert answers == {200}
