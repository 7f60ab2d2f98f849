"""Removals of days beside operations, relays, workers, redactions and long transactions."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from outbox import operations, subscribe
from outbox.deliveries import failpoints
from outbox.deliveries.locks import share_subscriptions
from outbox.management.cli.filters import parse_time
from outbox.models import Attempt, Delivery, Event, Operation, Settlement, Subscription
from outbox.operations import Choice, DayIsClosed
from outbox.operations.backfills import Backfill
from outbox.operations.bulk import BulkTask
from outbox.partitions.ahead import jump
from outbox.partitions.catalogue import DELIVERY
from outbox.partitions.closing import closed_day
from outbox.partitions.days import day_at, partition_name
from outbox.privacy import redaction
from outbox.reconciliation.examination import snapshot
from outbox.retention import whole_days
from outbox.settlements.recording import Report, record
from outbox.testing import Outbox
from tests.outbox.command import refused
from tests.outbox.converted import in_another_transaction, rows
from tests.outbox.drive import run_pass
from tests.threads import aside, in_thread, wait_until_blocked

from .past import (
    OF_DAYS,
    emit_in_the_past,
    handle,
    has_partition,
    in_the_past,
    low,
    once_at,
    prune,
    put,
    removal,
    seqs,
    settled,
    stored,
    yesterday,
)

pytestmark = OF_DAYS

BY: dict[str, Any] = {"by": "ann", "reason": "a test"}


@pytest.fixture(autouse=True)
def handler(converted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler `tests.write`; few tries to get locks."""

    @subscribe("parcels.ParcelSent", name="tests.write", backoff_base=0)
    def write() -> None: ...

    monkeypatch.setattr(whole_days, "_TRIES", 2)


def beside(action: Callable[[], object]) -> Callable[[], object]:
    """Return a function that runs an action on another connection, and returns its result."""
    return lambda: in_thread(action)()


class TestAReplay:
    def test_of_a_closed_day_is_refused_and_writes_nothing(self):
        settled(4)

        with once_at(failpoints.AFTER_CLOSE, beside(lambda: operations.replay(Choice(), **BY))) as (
            refused
        ):
            assert prune() == 4

        assert isinstance(refused[0], DayIsClosed)
        assert "are being removed by operation" in str(refused[0])
        assert "--since" in str(refused[0])
        assert not Operation.objects.filter(action="replay").exists()

    def test_of_a_closed_day_is_refused_in_a_dry_run(self):
        """Failed: it counted the deliveries."""
        settled(4)
        command = ["replay", "--handler", "tests.write", "--dry-run"]

        with once_at(failpoints.AFTER_CLOSE, beside(lambda: refused(*command))) as said:
            prune()

        assert "are being removed by operation" in str(said[0])

    def test_is_carried_out_with_the_time_that_the_refusal_names(self):
        """The sequence jumps some time after midnight, so a day has events of the next one."""
        late, *_others = settled(4)
        midnight = datetime.combine(yesterday() + timedelta(days=1), time(), tzinfo=UTC)
        Event.objects.filter(pk=late.pk).update(emitted_at=midnight)

        def replay() -> object:
            with pytest.raises(DayIsClosed) as refused:
                operations.replay(Choice(), **BY)
            [named] = re.findall(r"--since (\S+)\.", str(refused.value))
            return operations.replay(Choice(since=parse_time(named)), **BY).touched

        with once_at(failpoints.AFTER_CLOSE, beside(replay)) as touched:
            prune(older_than=timedelta(0))

        assert touched == [0]

    def test_of_other_days_is_carried_out(self):
        settled(4)
        young = Outbox().given("parcels.ParcelSent", parcel_id=uuid4())
        handle()
        since = Choice(since=timezone.now() - timedelta(hours=1))

        with once_at(
            failpoints.AFTER_CLOSE, beside(lambda: operations.replay(since, **BY).touched)
        ) as touched:
            assert prune() == 4

        assert touched == [1]
        assert stored() == {young.seq}

    def test_that_is_carried_out_stops_before_a_closed_day(self):
        settled(4)
        ids = list(Delivery.objects.order_by("pk").values_list("pk", flat=True))
        task = BulkTask("replay", Choice(), "default")

        def step() -> object:
            with transaction.atomic():
                return task.touch(ids, Operation(action="replay", **BY))

        with once_at(failpoints.AFTER_CLOSE, beside(step)) as touched:
            assert prune() == 4

        assert touched == [(0, None)]
        assert not Attempt.objects.exists()

    def test_that_has_begun_before_is_waited_for_and_its_event_stays(self):
        replayed, *_others = settled(4)
        row = Delivery.objects.get(event=replayed)

        with transaction.atomic():
            share_subscriptions(using="default")
            removed = in_thread(prune)
            wait_until_blocked(1)
            operations.replay(Choice(ids=(row.pk,)), **BY)
        removed()
        prune()

        assert stored() == {replayed.seq}
        assert Delivery.objects.get().state == "pending"
        assert Attempt.objects.get().outcome == "replayed"

    def test_of_an_event_that_stays_is_carried_out(self):
        owed, *_others = settled(4)

        @subscribe("parcels.ParcelSent", name="tests.count")
        def count() -> None: ...

        Outbox()
        operations.backfill(Choice(handler="tests.count"), **BY)
        handle()
        Delivery.objects.filter(event=owed, subscription__handler="tests.write").update(
            state="dead"
        )
        done = Delivery.objects.get(event=owed, state="done")

        with once_at(
            failpoints.AFTER_SLICE,
            beside(lambda: operations.replay(Choice(ids=(done.pk,)), **BY).touched),
        ) as touched:
            assert prune() == 3

        assert touched == [1]
        assert sorted(Delivery.objects.values_list("state", flat=True)) == ["dead", "pending"]


class TestABackfill:
    @pytest.fixture(autouse=True)
    def newcomer(self, handler: None) -> None:
        settled(4)

        @subscribe("parcels.ParcelSent", name="tests.count")
        def count() -> None: ...

        Outbox()

    def test_of_a_closed_day_is_refused_and_writes_nothing(self):
        choice = Choice(handler="tests.count")

        with once_at(
            failpoints.AFTER_CLOSE, beside(lambda: operations.backfill(choice, **BY))
        ) as refused:
            assert prune() == 4

        assert isinstance(refused[0], operations.CannotBackfill)
        assert stored() == set()
        assert not Operation.objects.filter(action="backfill").exists()

    def test_that_is_carried_out_stops_before_a_closed_day(self):
        task = Backfill(Choice(handler="tests.count"), "default")

        def step() -> object:
            with transaction.atomic():
                return task.touch(sorted(stored()), Operation(action="backfill", **BY))

        with once_at(failpoints.AFTER_CLOSE, beside(step)) as touched:
            assert prune() == 4

        assert touched == [(0, None)]
        assert not Delivery.objects.exists()


class TestARelay:
    @pytest.mark.parametrize(
        "point", [failpoints.AFTER_CLOSE, failpoints.AFTER_SLICE, failpoints.AFTER_EMPTYING]
    )
    def test_fans_out_an_event_that_waits(self, point: str):
        settled(3)
        [waiting] = emit_in_the_past(1)

        with once_at(point, beside(lambda: len(run_pass()))) as messages:
            prune()

        assert messages == [1]
        assert stored() == {waiting.seq}
        assert Delivery.objects.get().state == "sent"

    def test_waits_for_an_emptying_and_fans_out_afterwards(self):
        settled(3)
        [waiting] = emit_in_the_past(1)
        begun: list[Callable[[], object]] = []

        def begin() -> None:
            begun.append(in_thread(lambda: len(run_pass())))
            wait_until_blocked(1)

        with once_at(failpoints.IN_EMPTYING, begin):
            prune()

        assert begun[0]() == 1
        assert stored() == {waiting.seq}


OPERATIONS: dict[str, tuple[Callable[[int], Operation], str]] = {
    "retry": (lambda pk: operations.retry(Choice(ids=(pk,)), by="ann"), "pending"),
    "discard": (lambda pk: operations.discard(Choice(ids=(pk,)), **BY), "discarded"),
}


class TestAnOperationOnADeadDelivery:
    @pytest.mark.parametrize("name", ["retry", "discard"])
    @pytest.mark.parametrize(
        "point",
        [failpoints.AFTER_CLOSE, failpoints.AFTER_SLICE, failpoints.AFTER_EMPTYING],
    )
    def test_changes_it_and_its_event_stays(self, point: str, name: str):
        owed, *_others = settled(4)
        put(owed, "dead")
        pk = Delivery.objects.get(event=owed).pk
        act, state = OPERATIONS[name]

        with once_at(point, beside(lambda: act(pk).touched)) as touched:
            prune()

        assert touched == [1]
        if name == "retry" or Delivery.objects.exists():
            assert Delivery.objects.get(pk=pk).state == state
        prune()
        assert stored() == ({owed.seq} if name == "retry" else set())

    @pytest.mark.parametrize("name", ["retry", "discard"])
    def test_waits_for_an_emptying(self, name: str):
        owed, *_others = settled(4)
        put(owed, "dead")
        pk = Delivery.objects.get(event=owed).pk
        act, _state = OPERATIONS[name]
        begun: list[Callable[[], object]] = []

        def begin() -> None:
            begun.append(in_thread(lambda: act(pk).touched))
            wait_until_blocked(1)

        with once_at(failpoints.IN_EMPTYING, begin):
            prune()

        assert begun[0]() == 1


class TestADeliveryThatBecomesOwed:
    def test_is_found_under_the_locks(self):
        """A process of an earlier release does not read the mark, and has replayed it."""
        event, *_others = settled(4)

        def become_owed() -> object:
            return Delivery.objects.filter(event=event).update(state="pending", settled_at=None)

        with once_at(failpoints.AFTER_SLICE, beside(become_owed)):
            prune()

        assert stored() == {event.seq}
        assert Delivery.objects.get().state == "pending"


class TestARedaction:
    @pytest.mark.parametrize(
        "point", [failpoints.AFTER_CLOSE, failpoints.AFTER_SLICE, failpoints.AFTER_EMPTYING]
    )
    def test_reaches_the_events_that_stay(self, point: str):
        owed, *_others = settled(4)
        put(owed, "dead")
        Event.objects.update(subject="customer:7")

        def redact() -> object:
            return redaction.redact(subject="customer:7", force=True, **BY).unknown.total()

        with once_at(point, beside(redact)) as examined:
            prune()

        assert examined == [4 if point != failpoints.AFTER_EMPTYING else 1]
        assert owed.seq in stored()


class TestAReportOfASettlement:
    def test_that_arrives_again_for_a_closed_event_leaves_no_row(self):
        event, *_others = settled(4)
        Subscription.objects.update(consumers="billing")

        def report() -> object:
            with transaction.atomic():
                return record([Report(event.id, "billing")], using="default")["settlements"]

        with once_at(failpoints.AFTER_SLICE, beside(report)) as recorded:
            assert prune() == 4

        assert recorded == [1]
        assert not Settlement.objects.exists()


class TestAReconciliation:
    def test_keeps_its_rows_until_its_end(self):
        """A snapshot that is older than `TRUNCATE` would see no event of the day."""
        settled(4)

        with snapshot():
            aside(lambda: prune())
            assert Event.objects.filter(seq__gte=low()).count() == 4
        assert removal().state == "running"

        assert prune() == 4


class TestMaintenance:
    def test_of_the_day_is_waited_for_without_blocking_others(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """So PostgreSQL ends an autovacuum of the day, which may take longer than an hour."""
        monkeypatch.setattr(whole_days, "_TRIES", 1000)
        settled(4)
        leaf = partition_name(DELIVERY, yesterday())

        with in_another_transaction(f"LOCK TABLE {leaf} IN SHARE UPDATE EXCLUSIVE MODE"):
            removed = in_thread(prune)
            modes = requested_modes(leaf)
        assert removed() == 4

        assert modes == [("ShareUpdateExclusiveLock",)]


def requested_modes(table: str) -> list[tuple[str, ...]]:
    """Wait until a transaction waits for a lock of a table; return the modes."""
    while not (found := rows(_REQUESTED, table)):
        wait_until_blocked(1)
    return found


_REQUESTED = "SELECT mode FROM pg_locks WHERE NOT granted AND relation = %s::regclass"


class TestALongTransaction:
    def test_that_uses_the_day_postpones_its_removal_and_delays_nobody(self):
        events = settled(4)
        leaf_used = threading.Event()
        may_end = threading.Event()

        def hold() -> None:
            with transaction.atomic():
                rows("SELECT count(*) FROM outbox_delivery WHERE event_id = %s", events[0].seq)
                leaf_used.set()
                may_end.wait(60)

        held = in_thread(hold)
        assert leaf_used.wait(60)
        try:
            assert prune() == 0
            young = Outbox().given("parcels.ParcelSent", parcel_id=uuid4())
            handle()
        finally:
            may_end.set()
            held()
        assert Delivery.objects.get(event=young).state == "done"
        assert closed_day(using="default") is not None

        assert prune() == 4
        assert stored() == {young.seq}

    def test_that_has_stored_an_event_of_the_day_is_waited_for(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """It has taken its number on that day, and commits long after the day."""
        monkeypatch.setattr(whole_days, "_WRITER_SECONDS", 0.2)
        settled(3)
        has_stored, may_commit = threading.Event(), threading.Event()
        outbox = Outbox()  # it locks the subscriptions, so not in the transaction

        def emit_late() -> None:
            with in_the_past(), transaction.atomic():
                outbox.given("parcels.ParcelSent", parcel_id=uuid4())
                has_stored.set()
                may_commit.wait(60)

        late = in_thread(emit_late)
        assert has_stored.wait(60)
        try:
            jump_to_today()
            assert prune() == 3
            assert not Operation.objects.filter(choice__has_key="low").exists()
            assert has_partition()
        finally:
            may_commit.set()
            assert late() is None
        assert prune() == 0

        handle()
        assert Delivery.objects.get().state == "done"
        assert len(stored()) == 1


def jump_to_today() -> None:
    jump(day_at(timezone.now()), using="default")


class TestTwoRuns:
    def test_remove_a_day_once(self):
        owed, *others = settled(6)
        put(owed, "dead")

        with once_at(failpoints.AFTER_CLOSE, beside(prune)) as removed:
            mine = prune()

        assert {mine, removed[0]} == {0, 5}
        assert stored() == seqs(owed)
        assert len(others) == 5
