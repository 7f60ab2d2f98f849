"""Timelines and groups of what there is much of: the newest of it, at a bounded cost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from outbox import PermanentFailure, subscribe
from outbox.admin import timeline
from outbox.models import Delivery, Event, Subscription
from outbox.monitor.groups import groups
from outbox.monitor.timeline import timeline_of, timeline_of_correlation
from outbox.testing import Outbox

REQUEST, OTHER = uuid4(), uuid4()


@pytest.fixture
def outbox(own_registry: None, no_nudge: None) -> Outbox:
    @subscribe("tests.Told", attempts=1)
    def hear() -> None:
        raise PermanentFailure("no use")

    return Outbox()


def told(number: int, *, correlation: UUID = REQUEST, **facts: Any) -> list[Event]:
    """Store events, one after the other; `key` may name its place in the row."""
    key = facts.pop("key", "hot")
    return Event.objects.bulk_create(
        Event(
            name="tests.Told", key=key.format(place), payload={}, emitted_at=timezone.now(),
            correlation_id=correlation, **facts,
        )
        for place in range(number)
    )  # fmt: skip


def owed(events: list[Event]) -> None:
    row = Subscription.objects.get(event="tests.Told")
    Delivery.objects.bulk_create(
        Delivery(event=event, subscription=row, due_at=timezone.now() - timedelta(hours=1))
        for event in events
    )


class TestALongTimeline:
    def test_has_the_newest_of_it(self, outbox: Outbox) -> None:
        events = told(20)

        found = timeline_of(key="hot", most=5)

        assert [one.id for one in found] == [one.id for one in events[-5:]]

    def test_of_a_request_has_the_newest_of_it(self, outbox: Outbox) -> None:
        events = told(20, key="k{}")

        found = timeline_of_correlation(correlation_id=REQUEST, most=5)

        assert [one.id for one in found] == [one.id for one in events[-5:]]

    def test_is_not_hidden_by_what_one_request_told_of_other_keys(self, outbox: Outbox) -> None:
        events = told(60, key="k{}")
        mine = events[3]
        (effect,) = told(1, key="parcel", causation_id=mine.id)
        told(60, key="j{}")

        found = timeline_of(key="k3", most=5)

        assert [(one.id, one.depth) for one in found] == [(mine.id, 0), (effect.id, 1)]

    def test_follows_effects_of_effects_and_no_strangers(self, outbox: Outbox) -> None:
        (first,) = told(1)
        (second,) = told(1, key="parcel", causation_id=first.id)
        (third,) = told(1, key="letter", causation_id=second.id)
        (stranger,) = told(1, key="stranger")
        told(1, key="echo", causation_id=stranger.id)

        found = timeline_of(key="hot")

        assert [(one.id, one.depth) for one in found] == [
            (first.id, 0),
            (second.id, 1),
            (third.id, 2),
        ]

    def test_explains_so_many_deliveries_at_most(self, outbox: Outbox) -> None:
        owed(told(120))

        found = timeline_of(key="hot")

        assert sum(bool(delivery.why) for one in found for delivery in one.deliveries) == 50

    def test_costs_the_same_with_more_of_it(self, outbox: Outbox) -> None:
        owed(told(60))
        few = self.queries()
        owed(told(300, correlation=OTHER))

        assert self.queries() == few

    def queries(self) -> int:
        with CaptureQueriesContext(connection) as captured:
            timeline_of(key="hot", most=55)
        return len(captured)

    def test_says_on_its_page_that_there_is_more(
        self, outbox: Outbox, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(timeline, "MOST", 5)
        told(20)

        page = admin_client.get(reverse("admin:outbox_event_timeline") + "?q=hot").content.decode()

        assert "Only the newest 5 events are shown" in page

    def test_is_asked_for_less_often(self, outbox: Outbox) -> None:
        owed(told(2))
        short = timeline.story_of("hot", explained=True).poll_seconds
        owed(told(200))

        assert short == 2
        assert timeline.story_of("hot", explained=True).poll_seconds == 10


class TestGroupsOfMany:
    def test_are_of_the_newest(self, outbox: Outbox) -> None:
        for _ in range(7):
            outbox.given("tests.Told", key="k")
        outbox.deliver_all(raise_errors=False)

        (all_of_them,), (some,) = groups(), groups(most=3)

        newest = Delivery.objects.latest("pk").pk
        assert (all_of_them.number, some.number) == (7, 3)
        assert some.example == newest

    def test_say_on_their_page_that_there_are_more(
        self, outbox: Outbox, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("outbox.admin.dead._GROUPED", 3)
        for _ in range(7):
            outbox.given("tests.Told", key="k")
        outbox.deliver_all(raise_errors=False)

        page = admin_client.get(reverse("admin:outbox_delivery_dead")).content.decode()

        assert "These are the newest 3; there are more" in page
