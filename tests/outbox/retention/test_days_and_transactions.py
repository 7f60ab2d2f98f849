"""Removals of days beside transactions and snapshots of others, and by a role with few rights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connections, transaction
from django.utils import timezone

from outbox import operations, subscribe
from outbox.deliveries import failpoints
from outbox.models import Delivery, Event, Settlement
from outbox.partitions import dropping
from outbox.partitions.leaves import create_day
from outbox.partitions.past import has_no_writers, past_days
from outbox.retention import whole_days
from outbox.settlements.overdue import pursue
from outbox.testing import Outbox
from tests.outbox.converted import in_another_transaction, rows
from tests.outbox.ordered import Listener
from tests.threads import in_thread

from .past import (
    OF_DAYS,
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
    yesterday,
)

pytestmark = OF_DAYS

#: Takes the lock of a transaction that stores an event, and stores none.
WRITES = "UPDATE outbox_event SET version = version WHERE seq = 0"
#: Uses the tables, and the empty partition of the first days.
USES = "SELECT count(*) FROM outbox_event WHERE seq = 1"
REPEATABLE = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"


@pytest.fixture(autouse=True)
def handler(converted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropping, "_MOST_SECONDS", 0.5)
    for module in (dropping, whole_days):
        monkeypatch.setattr(module, "_WRITER_SECONDS", 0.0)

    @subscribe("parcels.ParcelSent", name="tests.write", backoff_base=0)
    def write() -> None: ...


class TestAnOlderSnapshot:
    def test_that_reads_the_day_afterwards_sees_the_rows_that_stay(self):
        """A dump takes its snapshot before it locks the tables. Their rows are owed."""
        owed, *_others = settled(6)
        put(owed, "dead")
        dump = connections["default"].copy()
        dump.set_autocommit(False)
        try:
            with dump.cursor() as cursor:
                cursor.execute(REPEATABLE)
                cursor.execute("SELECT count(*) FROM django_migrations")
                assert prune() == 5
                cursor.execute("SELECT seq FROM outbox_event")
                events = cursor.fetchall()
                cursor.execute("SELECT event_id, state FROM outbox_delivery")
                deliveries = cursor.fetchall()
        finally:
            dump.rollback()
            dump.close()

        assert events == [(owed.seq,)]
        assert deliveries == [(owed.seq, "dead")]

    def test_does_not_delay_a_run(self):
        """`FINALIZE` waits for all older snapshots, also those of other tables."""
        settled(3)
        with in_another_transaction(USES):
            assert prune() == 3
        assert is_pending()

        with in_another_transaction(REPEATABLE, "SELECT count(*) FROM django_migrations"):
            prune()
        assert is_pending()
        prune()

        assert not has_partition()


class TestATransactionThatUsesTheTables:
    def test_does_not_delay_a_run_that_detaches_a_partition(self):
        """`DETACH` waits for it without a limit, so it is cancelled. A later run finishes it."""
        settled(3)
        with in_another_transaction(USES):
            assert prune() == 3
        assert is_pending()

        prune()

        assert not has_partition()
        assert not is_pending()


class TestTransactionsThatMayHaveStoredAnEvent:
    def test_are_waited_for_once_and_later_ones_are_not(self):
        """Beside steady ones there is always one, and no day would ever be removed."""
        [*_first, day] = past_days(using="default")
        with ExitStack() as second:
            with in_another_transaction(WRITES):
                assert not has_no_writers(day, until=0, using="default")
                second.enter_context(in_another_transaction(WRITES))
                assert not has_no_writers(day, until=0, using="default")

            assert has_no_writers(day, until=0, using="default")

    def test_are_others_for_each_day(self):
        """What is known about one day is not known about a later one."""
        first, *_others, last = past_days(using="default")
        assert has_no_writers(first, until=0, using="default")

        with in_another_transaction(WRITES):
            assert not has_no_writers(last, until=0, using="default")

    def test_are_others_for_a_partition_that_was_created_again(self):
        """As after a restore, or in another schema: the names are the same."""
        [*_first, day] = past_days(using="default")
        assert has_no_writers(day, until=0, using="default")
        rows(f"ALTER TABLE outbox_event DETACH PARTITION {day.events.name}")
        rows(f"DROP TABLE {day.events.name}")
        with transaction.atomic():
            create_day(yesterday(), using="default")

        with in_another_transaction(WRITES):
            assert not has_no_writers(day, until=0, using="default")

    def test_are_named_in_the_log(self, caplog: pytest.LogCaptureFixture):
        caplog.set_level("INFO")
        settled(3)
        with in_another_transaction(WRITES):
            prune()

        assert "may have stored its events" in caplog.text


class TestARoleThatDoesNotOwnTheTables:
    def test_prunes_row_by_row_and_says_why(self, caplog: pytest.LogCaptureFixture):
        settled(3)

        with acting_as_clerk():
            assert prune() == 3

        assert "this role does not own the partitions" in caplog.text
        assert stored() == set()
        assert has_partition()


@contextmanager
def acting_as_clerk(sequences: str = "USAGE, SELECT, UPDATE") -> Iterator[None]:
    """Act as a role that may read and write all rows, in no transaction."""
    role = f"clerk_{uuid4().hex[:12]}"
    rows(f"CREATE ROLE {role}")
    rows(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    rows(f"GRANT {sequences} ON ALL SEQUENCES IN SCHEMA public TO {role}")
    rows(f"SET ROLE {role}")
    try:
        yield
    finally:
        rows("RESET ROLE")
        rows(f"DROP OWNED BY {role}")
        rows(f"DROP ROLE {role}")


class TestACorrection:
    @pytest.mark.parametrize(
        "point",
        [failpoints.AFTER_CLOSE, failpoints.AFTER_SLICE, failpoints.AFTER_EMPTYING],
    )
    def test_of_a_dead_delivery_is_carried_out(self, point: str):
        listener = Listener()
        listener.subscribe(attempts=1)
        listener.failing[1] = RuntimeError("dead")
        outbox = Outbox()
        with in_the_past():
            events = [
                outbox.given("tests.Walked", order_id=uuid4(), number=one) for one in range(1, 5)
            ]
        handle()
        dead = Delivery.objects.get(state="dead")

        def correct() -> object:
            payload = {**dead.event.payload, "number": 9}
            return operations.correct(dead.pk, payload, by="ann", reason="a test").corrects

        with once_at(point, lambda: in_thread(correct)()) as corrected:
            prune()
        handle()

        assert corrected == [events[0].id]
        assert [number for _, number in listener.received][-1] == 9
        prune()
        assert seqs(*events).isdisjoint(stored())


class TestAnOverdueSettlement:
    @pytest.mark.parametrize(
        "point",
        [failpoints.AFTER_CLOSE, failpoints.AFTER_SLICE, failpoints.AFTER_EMPTYING],
    )
    def test_is_pursued_and_its_event_stays(self, point: str):
        event, *_others = settled(4)
        expect(event, most_replays=1)

        with once_at(point, lambda: in_thread(lambda: pursue(using="default"))()) as full:
            assert prune() == 3

        assert full == [False]
        assert stored() == {event.seq}
        assert Delivery.objects.get().state == "pending"
        assert Settlement.objects.get().replays == 1

    def test_that_is_given_up_makes_a_dead_delivery_which_stays(self):
        event, *_others = settled(4)
        expect(event, most_replays=0)

        with once_at(failpoints.AFTER_SLICE, lambda: in_thread(lambda: pursue(using="default"))()):
            assert prune() == 3

        assert stored() == {event.seq}
        assert Delivery.objects.get().state == "dead"

    def test_that_is_opened_while_its_day_is_removed_keeps_its_event(self):
        """A process of an earlier release has replayed the delivery and opens it again."""
        event, *_others = settled(4)

        with once_at(failpoints.AFTER_SLICE, lambda: expect(event)):
            assert prune() == 3

        assert stored() == {event.seq}
        assert removal().touched == 3
        assert Settlement.objects.get().state == "open"


def expect(event: Event, *, most_replays: int = 1) -> None:
    """Let a settlement of the event be overdue."""
    row = Delivery.objects.select_related("subscription").get(event=event)
    row.subscription.consumers = "billing"
    row.subscription.save()
    Settlement.objects.create(
        delivery=row,
        event=event.id,
        consumer="billing",
        due_at=timezone.now() - timedelta(hours=1),
        most_replays=most_replays,
    )


def is_pending() -> bool:
    return bool(rows("SELECT 1 FROM pg_inherits WHERE inhdetachpending"))
