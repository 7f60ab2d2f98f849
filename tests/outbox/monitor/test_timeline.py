"""Timelines and groups of many events show the newest ones, at a bounded cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import chain
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
from outbox.monitor.explanations import explain
from outbox.monitor.groups import groups
from outbox.monitor.timeline import TimelineEvent, timeline_of, timeline_of_correlation
from outbox.testing import Outbox
from tests.outbox.query_cost import rows_read

REQUEST, OTHER = uuid4(), uuid4()
STORED = 4000
#: For a timeline of two events: rows on PostgreSQL, instructions on SQLite.
A_TIMELINE = {"postgresql": 20, "sqlite": 2000}


@pytest.fixture
def outbox(own_registry: None, no_nudge: None) -> Outbox:
    @subscribe("tests.Noted", attempts=1)
    def note() -> None:
        raise PermanentFailure("no use")

    return Outbox()


def store_events(number: int, *, correlation: UUID = REQUEST, **facts: Any) -> list[Event]:
    """Store events, one after the other; `key` may name its place in the row."""
    key = facts.pop("key", "hot")
    return Event.objects.bulk_create(
        Event(
            name="tests.Noted", key=key.format(place), payload={}, emitted_at=timezone.now(),
            correlation_id=correlation, **facts,
        )
        for place in range(number)
    )  # fmt: skip


def owed(events: list[Event]) -> None:
    row = Subscription.objects.get(event="tests.Noted")
    Delivery.objects.bulk_create(
        Delivery(event=event, subscription=row, due_at=timezone.now() - timedelta(hours=1))
        for event in events
    )


def analyze() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def read_for(look: Callable[[], object]) -> int:
    """How much of the big tables is read, by `rows_read`."""
    with CaptureQueriesContext(connection) as captured:
        look()
    return sum(rows_read(query["sql"]) for query in captured.captured_queries)


def pages_of(key: str, *, size: int) -> Iterator[list[TimelineEvent]]:
    after = 0
    while page := timeline_of(key=key, after=after, most=size):
        yield page
        after = max(event.seq for event in page)


class TestALongTimeline:
    def test_has_the_newest_of_it(self, outbox: Outbox) -> None:
        events = store_events(20)

        found = timeline_of(key="hot", most=5)

        assert [one.id for one in found] == [one.id for one in events[-5:]]

    def test_of_a_request_has_the_newest_of_it(self, outbox: Outbox) -> None:
        events = store_events(20, key="k{}")

        found = timeline_of_correlation(correlation_id=REQUEST, most=5)

        assert [one.id for one in found] == [one.id for one in events[-5:]]

    def test_is_not_hidden_by_what_one_request_emitted_for_other_keys(self, outbox: Outbox) -> None:
        events = store_events(60, key="k{}")
        mine = events[3]
        (effect,) = store_events(1, key="parcel", causation_id=mine.id)
        store_events(60, key="j{}")

        found = timeline_of(key="k3", most=5)

        assert [(one.id, one.depth) for one in found] == [(mine.id, 0), (effect.id, 1)]

    def test_follows_effects_of_effects_and_no_strangers(self, outbox: Outbox) -> None:
        (first,) = store_events(1)
        (second,) = store_events(1, key="parcel", causation_id=first.id)
        (third,) = store_events(1, key="letter", causation_id=second.id)
        (stranger,) = store_events(1, key="stranger")
        store_events(1, key="echo", causation_id=stranger.id)

        found = timeline_of(key="hot")

        assert [(one.id, one.depth) for one in found] == [
            (first.id, 0),
            (second.id, 1),
            (third.id, 2),
        ]

    def test_finds_effects_behind_thousands_of_others_of_its_request(self, outbox: Outbox) -> None:
        """Seen to fail where so many events of the correlation id were looked through."""
        (mine,) = store_events(1)
        store_events(STORED, key="k{}")
        (effect,) = store_events(1, key="parcel", causation_id=mine.id)

        found = timeline_of(key="hot", most=5)

        assert [(one.id, one.depth) for one in found] == [(mine.id, 0), (effect.id, 1)]

    def test_reads_nothing_of_others_of_its_request(self, outbox: Outbox) -> None:
        """Seen to fail where all of the correlation id was read."""
        (mine,) = store_events(1)
        store_events(1, key="parcel", causation_id=mine.id)
        store_events(STORED, key="k{}")
        analyze()

        assert read_for(lambda: timeline_of(key="hot")) <= A_TIMELINE[connection.vendor]

    def test_reads_no_more_effects_than_it_has_room_for(self, outbox: Outbox) -> None:
        (mine,) = store_events(1)
        store_events(STORED, key="k{}", causation_id=mine.id)
        analyze()

        found = timeline_of(key="hot", most=5)

        assert len(found) == 5
        assert (
            read_for(lambda: timeline_of(key="hot", most=5)) <= 10 * A_TIMELINE[connection.vendor]
        )

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
    def test_has_each_event_on_one_page(self, outbox: Outbox, size: int) -> None:
        """Also effects that come much later than their causes."""
        first, second = store_events(2)
        store_events(3, key="stranger")
        store_events(2, key="parcel", causation_id=first.id)
        third, *_ = store_events(2, causation_id=second.id)
        store_events(2, key="letter", causation_id=third.id)

        pages = list(pages_of("hot", size=size))

        seqs = [sorted(event.seq for event in page) for page in pages]
        assert all(len(page) == size for page in pages[:-1])
        assert list(chain(*seqs)) == sorted(event.seq for event in timeline_of(key="hot"))
        assert len(list(chain(*seqs))) == 8

    def test_is_in_the_order_of_emission_with_causes_before_effects(self, outbox: Outbox) -> None:
        first, second = store_events(2)
        (effect,) = store_events(1, key="parcel", causation_id=first.id)

        (page,) = pages_of("hot", size=10)

        assert [one.id for one in page] == [first.id, second.id, effect.id]
        assert [one.depth for one in page] == [0, 0, 1]

    def test_explains_so_many_deliveries_at_most(self, outbox: Outbox) -> None:
        owed(store_events(120))

        found = timeline_of(key="hot")

        assert sum(bool(delivery.why) for one in found for delivery in one.deliveries) == 50

    def test_costs_the_same_with_more_of_it(self, outbox: Outbox) -> None:
        owed(store_events(60))
        few = self.queries()
        owed(store_events(300, correlation=OTHER))

        assert self.queries() == few

    def queries(self) -> int:
        with CaptureQueriesContext(connection) as captured:
            timeline_of(key="hot", most=55)
        return len(captured)

    def test_says_on_its_page_that_there_is_more(
        self, outbox: Outbox, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(timeline, "MAX_EVENTS", 5)
        store_events(20)

        page = admin_client.get(reverse("admin:outbox_event_timeline") + "?q=hot").content.decode()

        assert "Only the newest 5 events are shown" in page

    def test_is_asked_for_less_often(self, outbox: Outbox) -> None:
        owed(store_events(2))
        short = timeline.timeline_for_key("hot", explained=True).poll_seconds
        owed(store_events(200))

        assert short == 2
        assert timeline.timeline_for_key("hot", explained=True).poll_seconds == 10


class TestGroupsOfMany:
    def test_are_of_the_newest(self, outbox: Outbox) -> None:
        for _ in range(7):
            outbox.given("tests.Noted", key="k")
        outbox.deliver_all(raise_errors=False)

        (all_of_them,), (some,) = groups(), groups(most=3)

        newest = Delivery.objects.latest("pk").pk
        assert (all_of_them.number, some.number) == (7, 3)
        assert some.example == newest

    def test_say_on_their_page_that_there_are_more(
        self, outbox: Outbox, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("outbox.admin.dead_letters._GROUPED", 3)
        for _ in range(7):
            outbox.given("tests.Noted", key="k")
        outbox.deliver_all(raise_errors=False)

        page = admin_client.get(reverse("admin:outbox_delivery_dead")).content.decode()

        assert "Only the newest 3 are shown" in page


class TestTheExplanation:
    def test_has_the_reason_of_the_most_severe_delivery_among_many(self, outbox: Outbox):
        """Seen to fail: only the first fifty had a reason, so it named a missing permission."""
        events = store_events(60)
        owed(events)
        Delivery.objects.filter(event=events[-1]).update(state="dead", attempts=1)

        found = explain(timeline_of(key="hot"), timezone.now())

        assert found is not None
        assert (found.condition, found.others) == ("dead", 59)
        assert "is shown to users" not in found.text
        assert "retry" in found.text
