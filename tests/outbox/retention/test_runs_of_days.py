"""Several runs that remove days: at once, after each other, and by other ages or archives."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from pytest_django import Settings

from outbox import emit, retention, subscribe
from outbox.deliveries import failpoints
from outbox.deliveries.failpoints import armed
from outbox.models import Attempt, DedupeKey, Event, Operation
from outbox.partitions.ahead import keep_ahead
from outbox.partitions.dropping import drop_empty
from outbox.partitions.past import Day, has_no_writers
from outbox.retention import one_day, record, whole_days
from outbox.retention.batches import prune_some
from outbox.retention.record import LEASE, STALE
from outbox.testing import Outbox
from tests.outbox.converted import days_later, rows
from tests.outbox.drive import Died, die
from tests.outbox.ordered import Listener, Walked
from tests.threads import aside, in_thread

from .past import (
    AGE,
    NAME,
    OF_DAYS,
    age,
    emit_in_the_past,
    handle,
    has_partition,
    in_the_past,
    killed_and_given_up_at,
    killed_at,
    low,
    once_at,
    prune,
    put,
    removal,
    seqs,
    settled,
    stored,
)

pytestmark = OF_DAYS

LOST = "parcels.ParcelLost"
LATER = timedelta(seconds=1)
#: A time limit that no run reaches here.
LONG = timedelta(minutes=10)


@pytest.fixture(autouse=True)
def handler(converted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that fails at its first attempt; slices of two events."""

    @subscribe(NAME, name="tests.write", backoff_base=0)
    def write(attempt: int) -> None:
        if attempt == 1:
            raise RuntimeError("the first one")

    monkeypatch.setattr(one_day, "_SLICE_BATCHES", 2)


@pytest.fixture
def lost(settings: Settings) -> list[Event]:
    """An event of a type that is kept for ten years, before six of one that is kept for a day."""
    settings.OUTBOX = {**settings.OUTBOX, "RETENTION": {NAME: 1, LOST: 3650}}
    found = emit_in_the_past(1, name=LOST)
    settled(6)
    return found


def beat(**options: object) -> int:
    """Prune by `OUTBOX["RETENTION"]`."""
    return prune(older_than=None, batch=1, **options)


def beside(action: Callable[[], object]) -> Callable[[], object]:
    return lambda: in_thread(action)()


def hold_the_day() -> None:
    rows("SELECT 1 FROM outbox_event WHERE seq = %s", low())


class TestTwoRunsWithTheSameAges:
    @pytest.mark.parametrize(
        "point", [failpoints.AFTER_CLOSE, failpoints.AFTER_SLICE, failpoints.AFTER_EMPTYING]
    )
    def test_of_which_one_removes_the_day(self, point: str, lost: list[Event]):
        with once_at(point, beside(beat)) as other:
            assert beat() == 6

        assert other == [0]
        assert stored() == seqs(*lost)

    @pytest.mark.parametrize("point", [failpoints.AFTER_CLOSE, failpoints.AFTER_SLICE])
    def test_of_which_the_first_seemed_dead_and_is_alive(self, point: str, lost: list[Event]):
        """It changes nothing more. What the second one has found out is not forgotten."""

        def take_over() -> object:
            age(LEASE + LATER)
            return in_thread(beat)()

        with once_at(point, take_over) as other:
            assert beat() == 0

        assert other == [6]
        assert stored() == seqs(*lost)
        assert removal().state == "finished"
        assert removal().touched == 6

    def test_of_which_the_first_seemed_dead_and_the_second_has_not_ended(self, lost: list[Event]):
        """The first one ends. The day is left to the run that has its name in the operation."""

        def take_over() -> None:
            age(LEASE + LATER)
            with armed(failpoints.AFTER_SLICE, die), pytest.raises(Died):
                beat()

        with once_at(failpoints.AFTER_CLOSE, beside(take_over)):
            assert beat() == 0

        assert removal().state == "running"
        age(LEASE)
        assert beat() == 6
        assert stored() == seqs(*lost)


class TestARunWithShorterAges:
    def test_continues_by_the_ages_of_the_first_one(self, lost: list[Event]):
        """So a third one removes nothing that only the second one may remove."""
        killed_and_given_up_at(failpoints.AFTER_CLOSE, older_than=None)
        killed_and_given_up_at(failpoints.AFTER_SLICE, older_than=AGE)

        beat()

        assert stored() == seqs(*lost)


class TestARunWithLongerAges:
    @pytest.mark.parametrize("retention", [{"default": 30}, {"shop.NoSuchEvent": 30}])
    @pytest.mark.parametrize("point", [failpoints.AFTER_CLOSE, failpoints.AFTER_SLICE])
    def test_leaves_a_removal_alone(
        self, point: str, retention: dict[str, float], settings: Settings
    ):
        settings.OUTBOX = {**settings.OUTBOX, "RETENTION": retention}
        settled(6)

        with once_at(point, beside(beat)) as removed:
            assert prune(batch=1) == 6

        assert removed == [0]
        assert removal().state == "finished"

    def test_leaves_alone_what_another_one_continues_from_time_to_time(self):
        settled(6)
        killed_and_given_up_at(failpoints.AFTER_SLICE)

        assert prune(older_than=timedelta(days=30)) == 0

        assert removal().state == "running"
        assert prune() == 6

    def test_opens_a_day_again_that_nobody_has_continued_for_long(self):
        settled(6)
        attempts = Attempt.objects.count()
        killed_and_given_up_at(failpoints.AFTER_SLICE)
        age(STALE + LATER)

        assert prune(older_than=timedelta(days=30)) == 0

        assert removal().state == "given_up"
        assert len(stored()) == 6
        assert Attempt.objects.count() == attempts


class TestARunAfterTheLastEventOfATypeWasPruned:
    def test_continues_the_removal_of_a_day_without_this_type(self):
        Outbox().given(LOST, parcel_id=uuid4())
        settled(6)
        killed_and_given_up_at(failpoints.AFTER_SLICE)
        Event.objects.filter(name=LOST).delete()

        assert prune() == 6

        assert removal().state == "finished"

    def test_continues_the_removal_of_a_day_in_which_the_last_one_had_stayed(self):
        [stayed] = emit_in_the_past(1, name=LOST)
        settled(6)
        Event.objects.filter(pk=stayed.pk).update(fanned_out_at=None)
        killed_and_given_up_at(failpoints.AFTER_SLICE)
        assert removal().choice["kept"] == [stayed.seq]
        Event.objects.filter(name=LOST).delete()

        assert prune() == 6

        assert removal().state == "finished"

    def test_continues_nothing_while_a_type_without_an_age_is_left(self, settings: Settings):
        [stays] = emit_in_the_past(1, name=LOST)
        settled(6)
        Event.objects.filter(pk=stays.pk).update(fanned_out_at=None)
        killed_and_given_up_at(failpoints.AFTER_SLICE)
        settings.OUTBOX = {**settings.OUTBOX, "RETENTION": {NAME: 1}}

        assert beat() == 0

        assert removal().state == "running"


class TestARunWhoseClockWasAhead:
    def test_keeps_no_day_closed_until_that_time(self):
        settled(6)
        with days_later(1):
            killed_at(failpoints.AFTER_CLOSE)

        assert prune() == 6


class TestARunWithoutTheArchiveOfTheFirstOne:
    def test_continues_nothing_and_the_archive_misses_nothing(self, tmp_path: Path):
        events = settled(6)
        killed_and_given_up_at(failpoints.AFTER_SLICE, archive=tmp_path)

        assert prune(archive="") == 0
        assert removal().state == "running"
        assert prune(archive=tmp_path) == 6

        assert archived(tmp_path) == seqs(*events)

    def test_deletes_what_is_left_of_an_emptied_day(self, tmp_path: Path):
        settled(6)
        killed_and_given_up_at(failpoints.AFTER_EMPTYING, archive=tmp_path)
        assert Attempt.objects.count() == 6

        prune(archive="")

        assert not Attempt.objects.exists()
        assert removal().state == "finished"


def archived(folder: Path) -> set[int]:
    texts = [gzip.decompress(one.read_bytes()).decode() for one in folder.glob("*.gz")]
    return {json.loads(line)["seq"] for text in texts for line in text.splitlines()}


class TestADayThatAnotherRunDrops:
    def test_ends_no_run(self):
        """On the next day, that of today is empty. A run has read it, and another one drops it."""
        settled(6)

        def drop() -> object:
            return drop_empty(until=time.monotonic() + 60, using="default")

        with days_later(1):
            keep_ahead(using="default")
            with once_at(failpoints.AFTER_CLOSE, beside(drop)) as dropped:
                assert prune() == 6

        [names] = dropped
        assert isinstance(names, list)
        assert len(names) == 1
        assert removal().state == "finished"

    def test_while_this_one_waits_for_writers_ends_no_run(self, monkeypatch: pytest.MonkeyPatch):
        settled(6)
        wait = has_no_writers
        removed: list[object] = []

        def waits(day: Day, **options: Any) -> bool:
            monkeypatch.setattr(whole_days, "has_no_writers", wait)
            removed.append(in_thread(prune)())
            assert not has_partition()
            return wait(day, **options)

        monkeypatch.setattr(whole_days, "has_no_writers", waits)

        assert prune() == 0
        assert removed == [6]


class TestARemovalThatIsGivenUp:
    def test_has_deleted_nothing(self):
        """It finds out in a later slice that too many of its events are young."""
        events = settled(6)
        attempts = Attempt.objects.count()

        def become_young() -> None:
            later = [event.pk for event in events[2:]]
            Event.objects.filter(pk__in=later).update(emitted_at=events[0].emitted_at + AGE * 3)

        with once_at(failpoints.AFTER_CLOSE, become_young):
            assert prune(batch=1) == 2

        assert removal().state == "given_up"
        assert stored() == seqs(*events[2:])
        assert Attempt.objects.count() == attempts - 2


class TestARemovalThatOthersHoldUp:
    def test_is_given_up_after_an_hour_and_pruned_row_by_row(self):
        events = settled(6)
        put(events[0], "dead")
        with transaction.atomic():
            hold_the_day()
            aside(lambda: prune(at_most=LONG))
            assert removal().state == "running"
            ready_an_hour_ago()
            removed = in_thread(lambda: prune(at_most=LONG))()

        assert removed == 5
        assert removal().state == "given_up"
        assert removal().choice["why"] == record.HELD_UP

    def test_is_not_tried_again_for_a_day_by_runs_with_a_time_limit(self):
        put(settled(6)[0], "dead")
        with transaction.atomic():
            hold_the_day()
            aside(lambda: prune(at_most=LONG))
            ready_an_hour_ago()
            aside(lambda: prune(at_most=LONG))
        assert removal().state == "given_up"

        settled(6)
        assert prune(at_most=LONG) == 6
        assert removals() == 1
        settled(6)
        assert prune() == 6
        assert removals() == 2


def removals() -> int:
    return Operation.objects.filter(choice__has_key="low").count()


def ready_an_hour_ago() -> None:
    """As if the day had been ready for more than an hour. In a transaction of its own."""

    def change() -> None:
        operation = removal()
        at = operation.started_at - STALE - LATER
        operation.choice["ready_at"] = at.isoformat()
        operation.save()

    aside(change)


class TestPruningRowByRow:
    def test_leaves_the_events_of_a_day_that_was_closed_meanwhile(self):
        """Otherwise they would be archived and counted twice."""
        events = settled(6)
        before = events[0].emitted_at

        def prune_rows() -> object:
            return prune_some(sorted(stored()), before=before, archive=None, using="default")

        with once_at(failpoints.AFTER_CLOSE, beside(prune_rows)) as removed:
            assert prune() == 6

        assert removed == [0]

    def test_within_a_transaction_of_the_caller_leaves_them_too(self):
        settled(6)

        def prune_inside() -> object:
            with transaction.atomic():
                return prune()

        with once_at(failpoints.AFTER_CLOSE, beside(prune_inside)) as removed:
            assert prune() == 6

        assert removed == [0]

    def test_goes_on_while_the_removal_of_a_day_takes_long(self, monkeypatch: pytest.MonkeyPatch):
        """It may take a part of the time of a run with a time limit."""
        monkeypatch.setattr(retention, "_SHARE", 0.0001)
        settled(6)
        other = Outbox().given(NAME, parcel_id=uuid4())
        handle()
        Event.objects.filter(pk=other.pk).update(emitted_at=other.emitted_at - 2 * AGE)

        with once_at(failpoints.AFTER_CLOSE, lambda: time.sleep(0.1)):
            assert prune(batch=1, at_most=LONG) == 1

        assert removal().state == "running"
        assert other.seq not in stored()


class TestRowsThatRemovedEventsHaveLeft:
    def test_are_deleted_also_if_the_process_was_killed_and_they_were_added_late(self):
        settled(4)
        first = Event.objects.earliest("pk")

        def fail_late() -> None:
            attempt = Attempt.objects.filter(delivery__event=first).get()
            attempt.pk = None
            attempt.save()

        with once_at(failpoints.AFTER_SLICE, fail_late):
            killed_and_given_up_at(failpoints.AFTER_EMPTYING)
        assert Attempt.objects.count() == 5

        prune()

        assert not Attempt.objects.exists()
        assert removal().state == "finished"

    def test_are_deleted_page_by_page(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("outbox.retention.slices._PAGE", 2)
        owed, *_others = settled(7)
        put(owed, "dead")

        prune()

        assert Attempt.objects.get().delivery.event_id == owed.seq
        assert removal().state == "finished"

    def test_are_their_deduplication_keys_and_no_others(self):
        Listener().subscribe()
        with in_the_past(), transaction.atomic():
            ids = [emit(Walked(order_id=uuid4()), dedupe_key=str(one)) for one in range(4)]
        handle()
        with transaction.atomic():
            emit(Walked(order_id=uuid4()), dedupe_key="young")
        put(Event.objects.get(id=ids[0]), "dead")

        with once_at(failpoints.AFTER_EMPTYING, DedupeKey.objects.count) as before:
            assert prune() == 3

        assert before == [5]
        assert DedupeKey.objects.count() == 2
