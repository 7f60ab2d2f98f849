"""Partitions of the coming days, and the jump of `seq` at the start of a day."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from pytest_django import Settings

from outbox import clock
from outbox.models import Event
from outbox.partitions import ahead
from outbox.partitions.catalogue import DELIVERY, EVENT, TABLES, partitions
from outbox.partitions.days import PER_DAY, day_at, day_of, first_seq, partition_name
from outbox.testing import Outbox
from tests.outbox.converted import acting_as_visitor, days_later, in_another_transaction, rows
from tests.outbox.relays import relay_loop
from tests.processes import eventually
from tests.threads import run_together

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]


def today() -> date:
    return day_at(clock.now())


def tomorrow() -> date:
    return today() + timedelta(days=1)


def days_of(table: str) -> list[date | None]:
    return [day_of(one.low) for one in partitions(table, using="default")]


def missing() -> list[date]:
    return ahead.missing_days(today(), using="default")


def keep_ahead() -> list[date]:
    return ahead.keep_ahead(using="default")


def emitted_seq() -> int:
    return Outbox().given("shops.Ordered", order_id="1").seq


@pytest.mark.usefixtures("converted")
class TestPartitionsAhead:
    def test_exist_for_the_next_days(self):
        wanted = [today() + timedelta(days=number) for number in range(8)]

        assert [days_of(table)[-8:] for table in TABLES] == [wanted, wanted]

    def test_are_created_for_the_day_that_is_missing(self):
        missing = today() + timedelta(days=8)

        with days_later(1):
            assert keep_ahead() == [missing]
            assert keep_ahead() == []

        assert [days_of(table)[-1] for table in TABLES] == [missing, missing]

    def test_are_created_after_days_without_a_relay(self):
        with days_later(30):
            keep_ahead()

            assert today() in days_of(EVENT)
            assert day_of(emitted_seq()) == today()

    def test_have_the_storage_parameters_and_the_statistics_targets_of_the_last_one(self):
        last = partition_name(DELIVERY, days_of(DELIVERY)[-1] or today())
        rows(f"ALTER TABLE {last} SET (fillfactor = 70, toast.autovacuum_enabled = off)")
        rows(f"ALTER TABLE {DELIVERY} ALTER state SET STATISTICS 17")
        rows(f"ALTER TABLE {DELIVERY} REPLICA IDENTITY FULL")

        with days_later(1):
            [day] = keep_ahead()

        [(options, toast, identity, target)] = rows(
            "SELECT c.reloptions, t.reloptions, c.relreplident::text, a.attstattarget "
            "FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND attname = 'state' WHERE c.relname = %s",
            partition_name(DELIVERY, day),
        )
        assert "fillfactor=70" in options
        assert toast == ["autovacuum_enabled=off"]
        assert (identity, target) == ("f", 17)

    def test_have_all_indexes_of_the_table(self):
        with days_later(1):
            keep_ahead()

        lacking = rows(
            "SELECT i.indexrelid::regclass FROM pg_index i WHERE i.indrelid IN "
            "('outbox_event'::regclass, 'outbox_delivery'::regclass) AND (NOT i.indisvalid OR "
            "(SELECT count(*) FROM pg_inherits WHERE inhparent = i.indexrelid) <> "
            "(SELECT count(*) FROM pg_inherits WHERE inhparent = i.indrelid))"
        )
        assert lacking == []

    def test_are_created_beside_a_transaction_that_has_emitted(self):
        with (
            in_another_transaction(f"LOCK TABLE {EVENT}, {DELIVERY} IN ROW EXCLUSIVE MODE"),
            days_later(1),
        ):
            assert len(keep_ahead()) == 1

    def test_are_created_once_by_relays_at_the_same_time(self):
        with days_later(4):
            run_together([keep_ahead] * 4)
            keep_ahead()

        for table in TABLES:
            assert len(days_of(table)) == len(set(days_of(table)))

    def test_are_created_for_the_table_that_lacks_one(self):
        name = partition_name(DELIVERY, tomorrow())
        rows(f"ALTER TABLE {DELIVERY} DETACH PARTITION {name}")
        rows(f"DROP TABLE {name}")

        assert keep_ahead() == [tomorrow()]

        assert days_of(EVENT) == days_of(DELIVERY)
        with days_later(1):
            keep_ahead()
            assert day_of(emitted_seq()) == today()

    def test_are_not_created_by_a_role_that_does_not_own_the_tables(self):
        with days_later(1), acting_as_visitor():
            assert keep_ahead() == []


@pytest.mark.usefixtures("converted")
class TestTheJump:
    def test_moves_new_events_to_the_range_of_the_day(self):
        emitted_seq()

        with days_later(1):
            keep_ahead()
            seqs = [emitted_seq(), emitted_seq()]

            assert seqs == [first_seq(today()), first_seq(today()) + 1]

    def test_is_done_once_a_day_also_before_the_first_event(self):
        with days_later(1):
            keep_ahead()

            assert not ahead.jump(today(), using="default")
            assert emitted_seq() == first_seq(today())
            assert not ahead.jump(today(), using="default")

    def test_never_goes_back(self):
        with days_later(1):
            keep_ahead()
            before = emitted_seq()

        assert not ahead.jump(today(), using="default")
        assert emitted_seq() == before + 1

    def test_needs_the_partitions_of_the_day(self):
        name = partition_name(DELIVERY, tomorrow())
        rows(f"ALTER TABLE {DELIVERY} DETACH PARTITION {name}")
        before = emitted_seq()

        assert not ahead.jump(tomorrow(), using="default")
        assert emitted_seq() == before + 1

    def test_is_done_although_a_later_partition_cannot_be_created(self):
        with (
            days_later(1),
            in_another_transaction(f"LOCK TABLE {EVENT} IN SHARE UPDATE EXCLUSIVE MODE"),
        ):
            with pytest.raises(OperationalError):
                keep_ahead()

            assert day_of(emitted_seq()) == today()

    def test_waits_for_another_process_that_lets_the_sequence_jump(self):
        with in_another_transaction(f"SELECT pg_advisory_xact_lock({ahead.LOCK})"):
            assert not ahead.jump(tomorrow(), using="default")

        assert ahead.jump(tomorrow(), using="default")

    def test_gives_no_number_twice_beside_emits(self):
        outbox = Outbox()

        def emit() -> None:
            for _ in range(20):
                outbox.given("shops.Ordered", order_id="1")

        def jump() -> None:
            for number in range(1, 8):
                ahead.jump(today() + timedelta(days=number), using="default")

        run_together([emit, emit, jump, jump])

        assert Event.objects.count() == 40  # `seq` is the primary key

    def test_is_not_done_by_a_role_that_may_not_read_the_sequence(self):
        """It would take the sequence for unused, and set it back."""
        with acting_as_visitor("GRANT UPDATE ON SEQUENCE outbox_event_seq_seq TO {role}"):
            assert not ahead.jump(tomorrow(), using="default")


@pytest.mark.usefixtures("converted")
class TestTheLastNumber:
    def test_is_not_read_as_zero_without_the_right(self):
        with acting_as_visitor(), pytest.raises(ahead.CannotRead):
            ahead.last_seq(using="default")

    def test_is_of_the_present_day_after_the_tables_are_flushed(self):
        """`flush` sets the sequence back to 1, and the first partition may have been dropped."""
        for table in TABLES:
            rows(f"DROP TABLE {table}_before")

        call_command("flush", interactive=False, verbosity=0)

        assert day_of(emitted_seq()) == today()

    def test_is_left_alone_by_migrate_beside_a_partition_that_the_outbox_did_not_create(self):
        """The doctor reports it. A deployment does not fail."""
        rows("CREATE TABLE rest PARTITION OF outbox_event DEFAULT")

        call_command("migrate", verbosity=0)

        assert Event.objects.filter(seq=emitted_seq()).exists()


@pytest.mark.usefixtures("plain")
class TestTablesWithoutPartitions:
    def test_are_left_as_they_are(self):
        assert keep_ahead() == []
        assert emitted_seq() < PER_DAY


@pytest.mark.usefixtures("converted")
class TestARelay:
    def test_creates_partitions_and_lets_the_sequence_jump(self):
        with days_later(1):
            loop = relay_loop()
            loop.start()
            try:
                eventually(lambda: ahead.last_seq(using="default") >= first_seq(today()) - 1, "")
            finally:
                loop.stop()

            assert today() + timedelta(days=7) in days_of(EVENT)

    def test_asks_nothing_without_the_setting(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "PARTITION": ""}
        asked: list[str] = []

        def watch(execute: object, sql: str, *rest: object) -> object:
            asked.append(sql)
            return execute(sql, *rest)  # type: ignore[operator]

        with connection.execute_wrapper(watch):
            ahead.Housekeeping("default").run()

        assert asked == []

    def test_tries_again_in_a_minute_if_a_table_is_in_maintenance(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ):
        housekeeping = ahead.Housekeeping("default")
        with days_later(1):
            with in_another_transaction(f"LOCK TABLE {EVENT} IN SHARE UPDATE EXCLUSIVE MODE"):
                housekeeping.run()
                assert "tried again in a minute" in caplog.text
            housekeeping.run()
            assert len(missing()) == 1
            monkeypatch.setattr(ahead, "_CHECK_SECONDS", 0.0)
            housekeeping.run()

            assert missing() == []
