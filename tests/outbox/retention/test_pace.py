"""Pruning is quick while nothing else uses the outbox, and yields to those who do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from outbox import operations, retention, subscribe
from outbox.models import Delivery, Event, Subscription
from outbox.retention import pace
from outbox.testing import Outbox

pytestmark = [pytest.mark.usefixtures("own_registry"), pytest.mark.django_db]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def after_batches(one: pace.AdaptivePace, clock: Clock, *, number: int = 20) -> float:
    """Return the rest after some quick batches in as many seconds."""
    for _ in range(number):
        clock.now += 1
        rest = one.rest_after(0.01)
    return rest


def store(*, days: int = 100, **delivery: Any) -> None:
    """Store an event, and its delivery if there is a state."""

    @subscribe("parcels.Sent", name=f"tests.note_{uuid4()}")
    def note() -> None: ...

    event = Outbox().given("parcels.Sent", parcel_id=uuid4())
    old = timezone.now() - timedelta(days=days)
    Event.objects.filter(pk=event.pk).update(emitted_at=old, fanned_out_at=old)
    if delivery:
        handler = Subscription.objects.latest("pk")
        Delivery.objects.create(event=event, subscription=handler, **{"due_at": old, **delivery})


class TestAPruneBesideNothingElse:
    def test_begins_with_small_batches(self, clock: Clock):
        one = pace.AdaptivePace(using="default")

        assert one.rest_after(0.01) == pace.REST * 0.01
        assert one.batch == pace.SMALLEST

    def test_grows_to_the_largest_batch_without_rests(self, clock: Clock):
        one = pace.AdaptivePace(using="default")

        assert after_batches(one, clock) == 0.0
        assert one.batch == pace.LARGEST

    def test_keeps_batches_short(self, clock: Clock):
        """On SQLite a batch blocks all writers."""
        one = pace.AdaptivePace(using="default")
        after_batches(one, clock)

        one.rest_after(pace.LONGEST_SECONDS * 2)

        assert one.batch == pace.LARGEST // 2

    def test_deletes_all_events(self, monkeypatch: pytest.MonkeyPatch):
        """With batches that grow meanwhile."""
        monkeypatch.setattr(pace, "QUIET_SECONDS", 0.0)
        monkeypatch.setattr(pace, "SMALLEST", 1)
        for _ in range(12):
            store()

        assert operations.prune(older_than=timedelta(days=30)) == 12
        assert not Event.objects.exists()


class TestAPruneBesideOthers:
    @pytest.fixture
    def quick(self, clock: Clock) -> pace.AdaptivePace:
        """A pace that has grown."""
        one = pace.AdaptivePace(using="default")
        after_batches(one, clock)
        return one

    def test_yields_to_an_emitter(self, clock: Clock, quick: pace.AdaptivePace):
        store(days=0)
        clock.now += 1

        assert quick.rest_after(0.01) == retention.REST * 0.01
        assert quick.batch == pace.SMALLEST

    def test_yields_to_a_backlog(self, clock: Clock, quick: pace.AdaptivePace):
        store(days=0, state="pending", due_at=timezone.now())
        after_batches(quick, clock)

        assert quick.batch == pace.SMALLEST

    def test_yields_to_deliveries_in_flight(self, clock: Clock, quick: pace.AdaptivePace):
        store(days=0, state="sent", token=1)
        after_batches(quick, clock)

        assert quick.batch == pace.SMALLEST

    def test_does_not_yield_to_a_delivery_that_is_due_later(
        self, clock: Clock, quick: pace.AdaptivePace
    ):
        store(days=0, state="pending", due_at=timezone.now() + timedelta(hours=1))
        after_batches(quick, clock)

        assert quick.batch == pace.LARGEST
