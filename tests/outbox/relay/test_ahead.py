"""Events that are fanned out ahead of a backlog of another owner."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, transaction
from pytest_django import Settings

from outbox import DomainEvent, EventRecord, emit, subscribe
from outbox.deliveries.sync import sync_subscriptions
from outbox.models import Delivery, Event
from outbox.relay import ahead, passes
from outbox.relay.ahead import few_of_each
from outbox.relay.passes import Pace, Plan, relay
from outbox.testing import Outbox
from outbox.transports.base import Message
from tests.outbox.drive import run_messages, run_pass
from tests.threads import run_together

pytestmark = [
    pytest.mark.usefixtures("own_registry", "no_nudge"),
    pytest.mark.django_db(transaction=True),
]


class Drawn(DomainEvent, key="card", share="{owner}"):
    card: str
    owner: str | None


def emit_drawn(owner: str | None, number: int, *, card: str = "") -> None:
    with transaction.atomic():
        for one in range(number):
            emit(Drawn(card=card or f"{owner}-{one}", owner=owner))


def fanned_out() -> list[str]:
    """Return the cards of the events that were fanned out, in order of `seq`."""
    rows = Event.objects.exclude(fanned_out_at=None).order_by("seq")
    return list(rows.values_list("key", flat=True))


@pytest.fixture(autouse=True)
def ten_in_a_page(settings: Settings) -> None:
    settings.OUTBOX = {**settings.OUTBOX, "FAN_OUT": 10}


@pytest.fixture
def seen() -> list[str]:
    """Subscribe an ordered handler; return the cards that it handled."""
    cards: list[str] = []

    @subscribe(Drawn, name="tests.see", ordered=True, share_window=100)
    def see(event: EventRecord) -> None:
        cards.append(event.key)

    sync_subscriptions()
    return cards


class TestAPassWithAFullPage:
    def test_takes_the_event_of_another_owner_too(self):
        """Failed: it waited until all 40 events before it were fanned out."""
        emit_drawn("large", 40)
        emit_drawn("small", 1)

        run_pass()

        assert fanned_out() == [*(f"large-{one}" for one in range(10)), "small-0"]

    def test_takes_no_newer_event_if_no_owner_has_many(self):
        """Failed: after an outage, half of each pass went to the newest events of all owners."""
        for number in range(20):
            emit_drawn(f"small-{number}", 1)

        run_pass()

        assert fanned_out() == [f"small-{number}-0" for number in range(10)]

    def test_takes_it_while_the_backlog_grows(self):
        """Failed with the newest page only: it was buried by those that came before the pass."""
        emit_drawn("large", 40)
        emit_drawn("small", 1)
        emit_drawn("large", 30)

        run_pass()

        assert "small-0" in fanned_out()

    @pytest.mark.parametrize("number", [11, 40])
    def test_takes_no_newer_events_of_the_owner_with_the_backlog(self, number: int):
        """Failed for the last few of a backlog, which then made the pages short."""
        emit_drawn("large", number)

        run_pass()

        assert len(fanned_out()) == 10

    def test_takes_events_in_turn_for_each_owner_up_to_a_fifth_of_a_page(self):
        emit_drawn("large", 40)
        for owner in ("a", "b", "c"):
            emit_drawn(owner, 1)

        run_pass()

        assert fanned_out()[10:] == ["a-0", "b-0"]

    def test_leaves_events_without_an_owner_in_their_order(self):
        emit_drawn("large", 40)
        emit_drawn(None, 1)

        run_pass()

        assert len(fanned_out()) == 10

    def test_fans_out_each_event_once(self, seen: list[str]):
        emit_drawn("large", 40)
        emit_drawn("small", 3)
        while messages := run_pass():
            run_messages(messages)

        assert len(seen) == len(set(seen)) == 43
        assert Delivery.objects.filter(state="done").count() == 43

    def test_keeps_the_order_of_a_key(self, seen: list[str]):
        """Seen to fail without `first_waiting`: the later event was fanned out first."""
        emit_drawn("large", 20)
        emit_drawn("other", 1, card="shared")
        emit_drawn("large", 45)
        emit_drawn("small", 1, card="shared")
        emit_drawn("third", 1)
        early, late = Event.objects.filter(key="shared").order_by("seq")

        messages = run_pass()

        assert fanned_out()[10:] == ["third-0"]
        while messages:
            run_messages(messages)
            messages = run_pass()
        rows = Delivery.objects.filter(event__in=[early, late]).order_by("pk")
        assert [(one.event_id, one.state) for one in rows] == [
            (early.pk, "done"),
            (late.pk, "done"),
        ]

    def test_finds_the_subscription_that_was_stored_before_the_event(
        self, seen: list[str], monkeypatch: pytest.MonkeyPatch
    ):
        """An event and a subscription of a deploy are stored while a pass has locked its page."""

        def lock_late(*arguments: Any, **more: Any) -> Any:
            @subscribe(Drawn, name="tests.late")
            def late() -> None: ...

            sync_subscriptions()
            emit_drawn("small", 1)
            return lock(*arguments, **more)

        lock = ahead.lock_ahead
        monkeypatch.setattr(passes, "lock_ahead", lock_late)
        emit_drawn("large", 40)

        run_pass()

        rows = Delivery.objects.filter(event__key="small-0")
        assert set(rows.values_list("subscription__handler", flat=True)) == {
            "tests.see",
            "tests.late",
        }


class TestPassesAfterOneThatTookEventsAhead:
    def totals(self) -> list[int]:
        """Run three passes; return the number of events that were fanned out after each."""
        emit_drawn("large", 40)
        emit_drawn("small", 1)
        found: list[int] = []

        def is_wanted() -> bool:
            found.append(len(fanned_out()))
            return len(found) < 3

        relay(publish=list[Message]().append, pace=Pace(), is_wanted=is_wanted)
        return found

    def test_have_a_fifth_of_a_page(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: the next event of another owner waited for a pass with a full page."""
        monkeypatch.setattr(passes, "_SHORT_SECONDS", 60.0)

        assert self.totals() == [11, 13, 15]

    def test_have_full_pages_again_later(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(passes, "_SHORT_SECONDS", 0.0)

        assert self.totals() == [11, 21, 31]

    def test_are_full_for_ten_seconds_if_the_lag_does_not_fall(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: a backlog that grows faster than short passes fan out would not have ended."""
        now = 100.0
        monkeypatch.setattr(passes, "time", SimpleNamespace(monotonic=lambda: now))
        pace = Pace()
        found = []
        for lag in (60.0, 59.5, 59.6, 59.7):
            is_short = pace.short_from <= now < pace.short_until
            found.append(is_short)
            pace.note_backlog(Plan(went_ahead=True, lag=lag), is_short=is_short)
            now += 1.0 - 1e-6
            pace.note_backlog(Plan(went_ahead=True, lag=lag + 10), is_short=is_short)  # too early
            now += 1e-6

        assert found == [False, True, True, False]
        assert pace.short_from == 100.0 + 2.0 + 10.0

    def test_do_not_rest_while_the_page_is_full(self):
        assert not Plan(fanned_out=2, is_full=True).is_small
        assert Plan(fanned_out=2).is_small


class TestSeveralRelays:
    def test_fan_out_each_event_once(self):
        """Seen to fail on PostgreSQL without the lock of `waiting_events_at`: two relays stored the
        delivery of one event.
        """

        @subscribe(Drawn, name="tests.see", batch=1, window=1000, share_window=1000)
        def see() -> None: ...

        sync_subscriptions()
        emit_drawn("large", 120)
        for number in range(30):
            emit_drawn(f"small-{number}", 1)
        sent: list[Message] = []

        run_together([partial(relay, publish=sent.append)] * 3)

        pairs = [pair for message in sent for pair in message.pairs]
        assert len(pairs) == len(set(pairs)) == 150
        assert len(fanned_out()) == 150


class TestAPassWithoutABacklog:
    def test_asks_for_no_further_events(self, django_assert_num_queries):
        sync_subscriptions()
        emit_drawn("small", 9)

        with django_assert_num_queries(4 if connection.vendor == "postgresql" else 6):
            run_pass(is_nudged=True)


class TestTheChoice:
    def test_is_empty_without_shares(self):
        assert few_of_each([(1, None), (2, None)], few=5, most=5) == []

    def test_leaves_out_shares_with_more_than_a_few(self):
        newest = [(1, "large"), (2, "small"), (3, "large"), (4, "large")]

        assert few_of_each(newest, few=2, most=5) == [2]

    def test_takes_one_of_each_share_in_turn(self):
        newest = [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c")]

        assert few_of_each(newest, few=2, most=4) == [1, 3, 5, 2]


@pytest.fixture(autouse=True)
def outbox() -> Outbox:
    return Outbox()
