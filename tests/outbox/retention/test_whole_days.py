"""Removal of whole days from partitioned tables: what goes, what stays, and the rows of both."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings

from outbox import emit, operations, subscribe
from outbox.deliveries import failpoints
from outbox.models import (
    Attempt,
    Delivery,
    Event,
    Horizon,
    Operation,
    Settlement,
    SettlementReport,
)
from outbox.partitions.emptying import IsBusy
from outbox.retention import one_day
from outbox.retention.record import STALE
from outbox.testing import Outbox
from tests.outbox.converted import rows
from tests.outbox.drive import run_message, run_pass
from tests.outbox.ordered import Listener, Walked
from tests.threads import in_thread

from .past import (
    OF_DAYS,
    age,
    emit_in_the_past,
    handle,
    has_partition,
    in_the_past,
    once_at,
    prune,
    put,
    removal,
    seqs,
    settled,
    stored,
)

pytestmark = OF_DAYS


@pytest.fixture(autouse=True)
def note(converted: None) -> None:
    """The handler `tests.write`, which fails at its first attempt."""

    @subscribe("parcels.ParcelSent", name="tests.write", backoff_base=0)
    def note(attempt: int) -> None:
        if attempt == 1:
            raise RuntimeError("the first one")


class TestAPastDay:
    def test_is_emptied_and_dropped_if_all_its_events_are_settled(self):
        settled(5)
        assert Attempt.objects.count() == 5

        assert prune() == 5

        assert stored() == set()
        assert not Delivery.objects.exists()
        assert not Attempt.objects.exists()
        assert not has_partition()

    def test_is_recorded_with_its_events_and_the_person(self):
        settled(5)

        prune()

        done = removal()
        assert (done.action, done.state, done.touched) == ("prune", "finished", 5)
        assert done.by == "cli:ann"

    def test_is_pruned_row_by_row_if_it_has_few_events(self):
        settled(1)

        assert prune() == 1

        assert not Operation.objects.filter(choice__has_key="low").exists()
        assert not has_partition()

    def test_stays_if_its_last_events_are_young(self):
        settled(5)
        Event.objects.update(emitted_at=timezone.now())

        assert prune() == 0
        assert len(stored()) == 5

    def test_is_kept_within_a_transaction_of_the_caller(self):
        """`DETACH` needs none. The events are pruned row by row."""
        settled(5)

        with transaction.atomic():
            assert prune() == 5

        assert has_partition()

    def test_has_a_horizon_before_any_event_is_missing(self):
        """Code that misses an event reads the horizon."""
        settled(5)

        def horizon() -> object:
            return Horizon.objects.get().emitted_before

        with once_at(failpoints.AFTER_SLICE, lambda: in_thread(horizon)()) as committed:
            prune()

        assert committed == [Horizon.objects.get().emitted_before]


class TestThePresentDay:
    def test_is_never_emptied_or_dropped(self):
        outbox = Outbox()
        for _ in range(5):
            outbox.given("parcels.ParcelSent", parcel_id=uuid4())
        handle()
        Event.objects.update(emitted_at=timezone.now() - timedelta(days=9))

        assert prune() == 5

        assert not Operation.objects.filter(choice__has_key="low").exists()
        [event] = emit_in_the_present()
        assert stored() == {event.seq}


def emit_in_the_present() -> list[Event]:
    return [Outbox().given("parcels.ParcelSent", parcel_id=uuid4())]


class TestAnEvent:
    @pytest.mark.parametrize("state", Delivery.OWED)
    def test_stays_while_a_delivery_is_owed(self, state: str):
        owed, *_others = settled(5)
        put(owed, state)

        assert prune() == 4

        assert stored() == {owed.seq}
        assert Delivery.objects.get().state == state
        assert Attempt.objects.get().delivery_id == Delivery.objects.get().pk
        assert removal().state == "finished"

    def test_stays_with_all_its_deliveries(self):
        @subscribe("parcels.ParcelSent", name="tests.count")
        def count() -> None: ...

        owed, *_others = settled(5)
        Delivery.objects.filter(event=owed, subscription__handler="tests.write").update(
            state="dead"
        )

        assert prune() == 4

        assert sorted(Delivery.objects.values_list("state", flat=True)) == ["dead", "done"]

    def test_stays_while_it_waits_for_fan_out(self):
        settled(3)
        [waiting] = emit_in_the_past(1)

        assert prune() == 3
        assert stored() == {waiting.seq}

        handle()
        assert Delivery.objects.get().state == "done"

    def test_stays_while_a_settlement_is_open(self):
        event, *_others = settled(4)
        row = Delivery.objects.get(event=event)
        now = timezone.now()
        Settlement.objects.create(delivery=row, event=event.id, consumer="billing", due_at=now)

        assert prune() == 3

        assert stored() == {event.seq}
        assert Settlement.objects.get().state == "open"

    def test_stays_until_it_is_reported_as_settled(self):
        event, other, *_others = settled(4)
        for one, reported_at in ((event, None), (other, timezone.now())):
            SettlementReport.objects.create(
                source="s",
                external_id=str(one.id),
                reported_id=str(one.id),
                consumer="shop",
                event=one.id,
                expected_at=timezone.now(),
                check_at=timezone.now(),
                reported_at=reported_at,
            )

        assert prune() == 3

        assert stored() == {event.seq}
        assert SettlementReport.objects.get().event == event.id

    @pytest.mark.parametrize("days", [400, None])
    def test_stays_while_its_type_has_a_longer_retention(
        self, days: float | None, settings: Settings
    ):
        settings.OUTBOX = {
            **settings.OUTBOX,
            "RETENTION": {"default": 1, "parcels.ParcelLost": days},
        }
        [lost] = emit_in_the_past(1, name="parcels.ParcelLost")
        settled(4)

        assert prune(older_than=None) == 4

        assert stored() == {lost.seq}

    def test_stays_if_it_is_younger_than_later_ones(self, monkeypatch: pytest.MonkeyPatch):
        """Each event's own time counts, not that of its neighbours."""
        first, *_others = settled(6)
        Event.objects.filter(pk=first.pk).update(emitted_at=timezone.now())

        assert prune() == 5
        assert stored() == {first.seq}

    def test_stays_with_others_if_too_many_would_have_to_be_copied(self):
        """More than three, in these tests. The rest is pruned row by row."""
        owed = settled(6)[:4]
        for one in owed:
            put(one, "dead")

        assert prune() == 2

        assert stored() == seqs(*owed)
        assert not Operation.objects.filter(choice__has_key="low").exists()
        assert has_partition()

    def test_that_stayed_is_pruned_when_it_is_settled_and_its_partition_dropped(self):
        owed, *_others = settled(5)
        put(owed, "dead")
        prune()
        assert has_partition()

        operations.discard(operations.Choice(), by="ann", reason="a test")

        assert prune() == 1
        assert stored() == set()
        assert not has_partition()


class TestADeliveryThatStays:
    def test_is_settled_by_the_message_that_was_in_flight(self):
        """Its id and token are the same after the day was emptied."""
        settled(4)
        Attempt.objects.all().delete()
        [event] = emit_in_the_past(1)
        [message] = run_pass()

        assert prune() == 4
        run_message(message)
        handle()

        row = Delivery.objects.get()
        assert (row.event_id, row.state) == (event.seq, "done")
        assert Attempt.objects.get().delivery_id == row.pk

    def test_holds_the_later_events_of_its_key(self):
        listener = Listener()
        listener.subscribe(attempts=1)
        listener.failing[1] = RuntimeError("dead")
        parcel = uuid4()
        outbox = Outbox()
        with in_the_past():
            for number in range(1, 5):
                key = parcel if number == 1 else uuid4()
                outbox.given("tests.Walked", order_id=key, number=number)
        handle()
        assert Delivery.objects.get(state="dead").event.key == str(parcel)

        assert prune() == 3
        outbox.given("tests.Walked", order_id=parcel, number=9)
        handle()
        assert [number for _, number in listener.received] == [2, 3, 4]

        listener.failing.clear()
        operations.retry(operations.Choice(states=("dead",)), by="ann")
        for _ in range(3):
            Delivery.objects.filter(state="blocked").update(due_at=timezone.now())
            handle()
        assert [number for _, number in listener.received] == [2, 3, 4, 1, 9]


class TestADeduplicationKey:
    def test_is_used_while_its_event_stays_and_unused_afterwards(self):
        def sent(key: str) -> Any:
            with transaction.atomic():
                return emit(Walked(order_id=PARCEL), dedupe_key=key)

        Listener().subscribe()
        with in_the_past():
            ids = {key: sent(key) for key in ("a", "b", "c", "d")}
        handle()
        put(Event.objects.get(id=ids["a"]), "dead")

        assert prune() == 3

        assert sent("a") == ids["a"]
        assert sent("b") != ids["b"]


PARCEL = uuid4()


class TestAnArchive:
    def test_has_the_same_lines_as_that_of_row_by_row_pruning(self, tmp_path: Path):
        owed, *others = settled(5)
        put(owed, "dead")
        with transaction.atomic():  # row by row
            assert prune(archive=tmp_path / "rows") == 4
            transaction.set_rollback(True)

        assert prune(archive=tmp_path / "day") == 4

        expected = lines(tmp_path / "rows")
        assert lines(tmp_path / "day") == expected
        assert [one["seq"] for one in expected] == sorted(seqs(*others))
        assert len(expected[0]["deliveries"][0]["failures"]) == 1

    def test_that_is_set_while_a_day_is_closed_has_all_its_events(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        settled(5)
        assert prune(at_most=timedelta(microseconds=400), batch=1) == 0
        with monkeypatch.context() as patch:
            patch.setattr(one_day, "_SLICE_BATCHES", 1)
            patch.setattr(one_day, "empty", busy)
            prune(batch=1)
        assert removal().choice["step"] == "empty"
        assert prune(archive=tmp_path) == 0
        age(STALE + timedelta(seconds=1))

        assert prune(archive=tmp_path) == 5

        assert len(lines(tmp_path)) == 5


def busy(*_given: object, **_more: object) -> None:
    raise IsBusy


def lines(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("events-*.ndjson.gz"))
    texts = [gzip.decompress(one.read_bytes()).decode() for one in files]
    found = [json.loads(line) for text in texts for line in text.splitlines()]
    return sorted(found, key=lambda line: line["seq"])


class TestARunWithATimeLimit:
    def test_continues_the_removal_of_an_earlier_one(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(one_day, "_SLICE_BATCHES", 1)
        settled(6)

        removed = [prune(batch=1, at_most=timedelta(milliseconds=60)) for _ in range(60)]

        assert sum(removed) == 6
        assert stored() == set()


class TestARetentionThatIsRaised:
    def test_reopens_the_day_that_is_being_removed(self, monkeypatch: pytest.MonkeyPatch):
        settled(5)
        with monkeypatch.context() as patch:
            patch.setattr(one_day, "empty", busy)
            prune()
        assert removal().state == "running"

        age(STALE + timedelta(seconds=1))

        assert prune(older_than=timedelta(days=30)) == 0

        assert removal().state == "given_up"
        assert len(stored()) == 5
        assert operations.replay(operations.Choice(), by="ann", reason="a test").touched == 5


class TestADefaultPartition:
    def test_is_reported_and_prevents_no_pruning(self, caplog: pytest.LogCaptureFixture):
        settled(5)
        rows("CREATE TABLE mine PARTITION OF outbox_event DEFAULT")

        assert prune() == 5

        assert "Detach this partition" in caplog.text
