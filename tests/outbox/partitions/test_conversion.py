"""The conversion of filled tables, beside emitters, relays and workers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from outbox import PermanentFailure, subscribe
from outbox.deliveries.locks import limited_waits
from outbox.models import Attempt, Delivery, Event
from outbox.partitions import conversion, preparation
from outbox.partitions.ahead import keep_ahead
from outbox.partitions.catalogue import (
    DELIVERY,
    EVENT,
    TABLES,
    Partition,
    is_partitioned,
    partitions,
)
from outbox.partitions.conversion import CannotPartition, convert
from outbox.partitions.days import day_at, first_seq
from outbox.testing import Outbox
from tests.outbox.converted import days_later, in_another_transaction, rows
from tests.outbox.drive import emit_orders, run_messages, run_pass, states
from tests.outbox.work_threads import working
from tests.processes import eventually
from tests.threads import PATIENCE, in_thread, wait_until_blocked

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.postgresql,
    pytest.mark.usefixtures("plain"),
]

_FILES = """
SELECT c.oid, pg_relation_filenode(c.oid) FROM pg_class c WHERE c.oid IN (
    SELECT to_regclass(one) FROM unnest(%s::text[]) one
    UNION SELECT indexrelid FROM pg_index
    WHERE indrelid IN (SELECT to_regclass(one) FROM unnest(%s::text[]) one))"""


def convert_all(report: Callable[[str], object] = lambda text: None) -> None:
    convert(using="default", report=report)


def prepare() -> None:
    """Build the indexes and validate the checks."""
    for step in conversion.steps(using="default")[:-3]:
        step.run()


def files(*tables: str) -> set[tuple[int, int]]:
    """Return the number and the file of tables and of their indexes."""
    return set(rows(_FILES, list(tables), list(tables)))


def fill() -> None:
    """Store settled, pending, dead, blocked and waiting rows."""

    @subscribe("shops.Ordered")
    def ship(number: int) -> None:
        if number == 0:
            raise PermanentFailure("The shop is closed")

    @subscribe("shops.Ordered", ordered=True)
    def bill() -> None: ...

    emit_orders(4)
    run_messages(run_pass())
    emit_orders(2)
    run_pass(only=[])
    emit_orders(1)


#: Of a transaction: when PostgreSQL ends it if the host of its client is lost.
BOUNDS = ["5s", "5000"]


@contextmanager
def bounds_at(place: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """Yield the bounds in force whenever the code calls `limited_waits` at a place."""
    found: list[list[str]] = []

    def watched(*args: Any, **named: Any) -> Any:
        settings = ("idle_in_transaction_session_timeout", "tcp_user_timeout")
        found.append([rows(f"SHOW {one}")[0][0] for one in settings])
        return limited_waits(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(place, watched)
        yield found


class TestAConversion:
    def test_keeps_every_row(self):
        fill()
        before = [list(model.objects.order_by("pk").values()) for model in (Event, Delivery)]
        assert {"done", "dead", "pending"} <= set(states())

        convert_all()

        after = [list(model.objects.order_by("pk").values()) for model in (Event, Delivery)]
        assert after == before
        assert Attempt.objects.count() == 1

    def test_makes_the_tables_the_first_partition_and_creates_those_of_a_week(self):
        convert_all()

        high = first_seq(day_at(timezone.now()) + timedelta(days=2))
        for table in TABLES:
            found = partitions(table, using="default")
            assert found[0] == Partition(table, f"{table}_before", 0, high, is_detaching=False)
            assert [one.low for one in found[1:]] == [high + n * 10**11 for n in range(6)]

    def test_writes_no_file_of_a_table_or_index_in_the_swap(self):
        """PostgreSQL would build an index under a lock if it did not find an equivalent one."""
        fill()
        found: dict[str, set[tuple[int, int]]] = {}
        convert_all(lambda text: found.update({text: files(*TABLES)}))

        [before] = [seen for text, seen in found.items() if text.startswith("Replace")]
        after = files(f"{EVENT}_before", f"{DELIVERY}_before")
        assert after <= before
        dropped = {"outbox_event_id_key", "outbox_delivery_pkey"}
        assert len(before) - len(after) == len(dropped)

    def test_leaves_indexes_under_their_names(self):
        names = "SELECT indexname FROM pg_indexes WHERE tablename IN (%s, %s)"
        before = {name for [name] in rows(names, *TABLES)}

        convert_all()

        after = {name for [name] in rows(names, *TABLES)}
        assert before - after == {"outbox_event_id_key"}
        assert after - before == {"outbox_event_id", "outbox_delivery_id"}

    def test_leaves_no_foreign_key_of_a_partitioned_table(self):
        convert_all()

        assert (
            rows(
                "SELECT conname FROM pg_constraint WHERE contype = 'f' AND "
                "(conrelid::regclass::text ~ '^outbox_(event|delivery)' "
                "OR confrelid::regclass::text ~ '^outbox_(event|delivery)')"
            )
            == []
        )

    def test_continues_the_numbers(self):
        fill()
        last = Event.objects.latest("seq").seq, Delivery.objects.latest("pk").pk

        convert_all()

        emit_orders(1)
        run_pass(only=[])
        assert Event.objects.latest("seq").seq == last[0] + 1
        assert Delivery.objects.latest("pk").pk > last[1]

    def test_keeps_sequences_that_django_finds(self):
        convert_all()

        found = rows(
            "SELECT pg_get_serial_sequence('outbox_event', 'seq'), "
            "pg_get_serial_sequence('outbox_delivery', 'id')"
        )
        assert found == [("public.outbox_event_seq_seq", "public.outbox_delivery_id_seq")]

    def test_changes_nothing_when_it_is_run_again(self):
        convert_all()
        before = files(EVENT, DELIVERY, f"{EVENT}_before", f"{DELIVERY}_before")
        done: list[str] = []

        convert_all(done.append)

        assert done == []
        assert files(EVENT, DELIVERY, f"{EVENT}_before", f"{DELIVERY}_before") == before

    def test_of_empty_tables_is_done(self):
        convert_all()

        fill()
        assert {"done", "dead", "pending"} <= set(states())

    def test_refuses_a_second_delivery_of_an_event_and_subscription(self):
        fill()
        convert_all()
        row = Delivery.objects.all()[0]
        row.pk = None

        with pytest.raises(Exception, match="outbox_delivery_before_once"):
            row.save(force_insert=True)


class TestPropertiesOfTheTables:
    def test_are_those_of_the_partitioned_ones(self):
        role = f"reader_{uuid4().hex[:12]}"
        rows(f"CREATE ROLE {role}")
        try:
            rows(f"GRANT SELECT ON outbox_event TO {role} WITH GRANT OPTION")
            rows(f"GRANT UPDATE (note) ON outbox_delivery TO {role}")
            rows(f"GRANT USAGE ON SEQUENCE outbox_event_seq_seq TO {role}")
            rows("ALTER TABLE outbox_event ALTER name SET STATISTICS 300")
            rows("ALTER TABLE outbox_event REPLICA IDENTITY FULL")
            rows("COMMENT ON TABLE outbox_event IS 'our events'")
            before = _properties()

            convert_all()

            assert _properties() == before
        finally:
            rows(f"DROP OWNED BY {role}")
            rows(f"DROP ROLE {role}")

    def test_include_storage_parameters_of_each_partition(self):
        convert_all()

        found = {
            tuple(options)
            for [options] in rows(
                "SELECT reloptions FROM pg_class WHERE relkind = 'r' AND relname ~ %s",
                "^outbox_delivery_",
            )
        }
        assert len(found) == 1
        assert "fillfactor=90" in next(iter(found))

    def test_include_publications(self):
        rows(
            "CREATE PUBLICATION orders FOR TABLE outbox_event (seq, name) WHERE (seq > 5) "
            "WITH (publish = 'insert', publish_via_partition_root = true)"
        )
        shown = "SELECT tablename, attnames, rowfilter FROM pg_publication_tables"
        before = rows(shown)

        convert_all()

        assert rows(shown) == before

    def test_include_indexes_of_the_project(self):
        rows("CREATE INDEX payloads ON outbox_event USING gin (payload)")

        convert_all()

        found = rows("SELECT relkind::text FROM pg_class WHERE relname = 'payloads'")
        assert found == [("I",)]


def _properties() -> list[Any]:
    return [
        rows(
            "SELECT c.relacl::text, c.relreplident, pg_get_userbyid(c.relowner), "
            "obj_description(c.oid), "
            "(SELECT json_agg(json_build_array(attname, attacl::text, attstattarget) "
            "ORDER BY attname) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0) "
            "FROM pg_class c WHERE relname = %s",
            name,
        )
        for name in (*TABLES, "outbox_event_seq_seq", "outbox_delivery_id_seq")
    ]


class Interrupted(BaseException):
    """The process of the command was killed."""


class TestAnInterruptedConversion:
    @pytest.mark.parametrize("number", range(8))
    def test_is_finished_by_the_next_run(self, number: int):
        fill()
        before = Event.objects.count(), Delivery.objects.count()
        done: list[str] = []

        def interrupt(text: str) -> None:
            if len(done) == number:
                raise Interrupted
            done.append(text)

        with pytest.raises(Interrupted):
            convert_all(interrupt)
        emit_orders(1)
        convert_all()

        assert is_partitioned(using="default")
        assert (Event.objects.count() - 1, Delivery.objects.count()) == before

    def test_builds_an_invalid_index_again(self):
        index = preparation.INDEXES[0]
        rows(f"CREATE INDEX {index.name} ON outbox_event (id)")
        rows("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", index.name)

        convert_all()

        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass"
        assert rows(valid, index.name) == [(True,)]

    def test_moves_the_check_of_another_day(self):
        with days_later(-5):
            prepare()

        convert_all()

        high = first_seq(day_at(timezone.now()) + timedelta(days=2))
        assert partitions(EVENT, using="default")[0].high == high

    def test_has_changed_nothing_if_the_swap_fails(self, monkeypatch: pytest.MonkeyPatch):
        def fail(table: str, *_: Any, **__: Any) -> list[str]:
            return ["SELECT 1 / 0"] if table == DELIVERY else []

        fill()
        before = rows("SELECT tablename, indexname FROM pg_indexes ORDER BY 1, 2")
        with monkeypatch.context() as patch:
            patch.setattr("outbox.partitions.swap.carried_statements", fail)
            with pytest.raises(Exception, match="division by zero"):
                convert_all()

        after = rows("SELECT tablename, indexname FROM pg_indexes ORDER BY 1, 2")
        assert set(before) <= set(after)
        assert not is_partitioned(using="default")
        emit_orders(1)
        convert_all()


class TestACheck:
    def test_requests_no_lock_while_a_transaction_uses_the_table(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("outbox.partitions.in_use.REPORT_SECONDS", 0.2)
        reports: list[str] = []
        high = first_seq(day_at(timezone.now()) + timedelta(days=2))
        with in_another_transaction("LOCK TABLE outbox_delivery IN ACCESS SHARE MODE"):
            checked = in_thread(
                lambda: preparation.check(DELIVERY, high, using="default", report=reports.append)
            )
            eventually(lambda: len(reports) > 1, "two reports")
            with transaction.atomic():
                rows("SET LOCAL lock_timeout = '1ms'")
                rows("LOCK TABLE outbox_delivery IN ROW EXCLUSIVE MODE")

        assert checked() is None
        assert "Waiting for process" in reports[0]
        assert preparation.is_checked(DELIVERY, high, using="default")

    def test_bounds_how_long_a_lost_host_keeps_its_lock(self, monkeypatch: pytest.MonkeyPatch):
        high = first_seq(day_at(timezone.now()) + timedelta(days=2))
        with bounds_at("outbox.partitions.preparation.limited_waits", monkeypatch) as found:
            preparation.check(DELIVERY, high, using="default")

        assert found == [BOUNDS]


class TestTheSwap:
    def test_lets_others_continue_while_a_transaction_uses_the_tables(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Each try ends soon, so that others do not queue behind it."""
        monkeypatch.setattr("outbox.partitions.swap.wait_for_users", lambda *_, **__: {})
        Outbox()
        prepare()
        with in_another_transaction("LOCK TABLE outbox_event IN ACCESS SHARE MODE"):
            converted = in_thread(convert_all)
            wait_until_blocked(1)
            for _ in range(3):
                emit_orders(1)

        assert converted() is None
        assert is_partitioned(using="default")
        assert Event.objects.count() == 3

    def test_requests_no_lock_while_a_transaction_uses_the_tables(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("outbox.partitions.in_use.REPORT_SECONDS", 0.2)
        outbox = Outbox()
        prepare()
        reports: list[str] = []
        with in_another_transaction("LOCK TABLE outbox_subscription IN ACCESS SHARE MODE"):
            converted = in_thread(lambda: convert_all(reports.append))
            eventually(lambda: any("Waiting for process" in one for one in reports), "a report")
            for _ in range(3):
                with transaction.atomic():
                    rows("SET LOCAL lock_timeout = '1ms'")
                    outbox.given("shops.Ordered", order_id=uuid4())
            assert not is_partitioned(using="default")

        assert converted() is None
        assert is_partitioned(using="default")

    def test_ends_with_the_name_of_what_it_waits_for(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("outbox.partitions.swap.LONGEST_SECONDS", 0.5)
        with (
            in_another_transaction("SELECT count(*) FROM outbox_attempt"),
            pytest.raises(CannotPartition) as caught,
        ):
            convert_all()

        assert "for 0.5 seconds. The last: process " in str(caught.value)
        assert "SELECT count(*) FROM outbox_attempt" in str(caught.value)
        assert not is_partitioned(using="default")
        convert_all()

    @pytest.mark.parametrize("undone", ["index", "check"])
    def test_prepares_again_what_was_undone_before_it(
        self, undone: str, monkeypatch: pytest.MonkeyPatch
    ):
        """Otherwise PostgreSQL would build an index, or read all rows, under the locks."""
        fill()
        undo = {
            "index": "DROP INDEX outbox_event_before_id",
            "check": "ALTER TABLE outbox_delivery DROP CONSTRAINT outbox_delivery_range",
        }
        swaps: list[set[tuple[int, int]]] = []

        def watch(text: str) -> None:
            if not text.startswith("Replace"):
                return
            if not swaps:
                rows(undo[undone])
            swaps.append(files(*TABLES))

        convert_all(watch)

        assert len(swaps) == 2
        assert files(f"{EVENT}_before", f"{DELIVERY}_before") <= swaps[-1]

    def test_is_refused_if_it_would_lose_what_was_created_meanwhile(self):
        def refer(text: str) -> None:
            if text.startswith("Replace"):
                rows("CREATE TABLE mine (event bigint CONSTRAINT my_key REFERENCES outbox_event)")

        with pytest.raises(CannotPartition, match="The foreign key my_key of mine refers to"):
            convert_all(refer)

        assert rows("SELECT 1 FROM pg_constraint WHERE conname = 'my_key'") == [(1,)]
        assert not is_partitioned(using="default")

    def test_ends_a_statement_that_takes_long_under_the_locks(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("outbox.partitions.swap._STATEMENT_LIMIT", 50)
        monkeypatch.setattr("outbox.partitions.swap.LONGEST_SECONDS", 0.5)
        monkeypatch.setattr(
            "outbox.partitions.swap.publications", lambda *_, **__: ["SELECT pg_sleep(600)"]
        )

        with pytest.raises(OperationalError, match="statement timeout"):
            convert_all()

        assert not is_partitioned(using="default")
        emit_orders(1)

    def test_bounds_how_long_a_lost_host_keeps_its_locks(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: every emit waited until PostgreSQL noticed the loss, two hours by default."""
        with bounds_at("outbox.partitions.swap.limited_waits", monkeypatch) as found:
            convert_all()

        assert found == [BOUNDS]

    def test_waits_for_maintenance_without_blocking_others(self):
        Outbox()
        prepare()
        with in_another_transaction("LOCK TABLE outbox_delivery IN SHARE UPDATE EXCLUSIVE MODE"):
            converted = in_thread(convert_all)
            wait_until_blocked(1)
            with transaction.atomic():
                rows("SET LOCAL lock_timeout = '1ms'")
                emit_orders(1)

        assert converted() is None

    def test_passes_a_statement_that_waited_for_it_to_the_new_table(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        outbox = Outbox()
        is_swapped = threading.Event()

        @contextmanager
        def and_wait(seconds: float, **options: Any) -> Iterator[Any]:
            with limited_waits(seconds, **options) as cursor:
                yield cursor
            is_swapped.set()
            wait_until_blocked(1)

        monkeypatch.setattr("outbox.partitions.swap.limited_waits", and_wait)
        converted = in_thread(convert_all)
        assert is_swapped.wait(PATIENCE)
        outbox.given("shops.Ordered", order_id=uuid4(), number=1)

        assert converted() is None
        assert rows("SELECT tableoid::regclass::text FROM outbox_event") == [
            ("outbox_event_before",)
        ]


class TestAConversionBesideOrders:
    def test_loses_and_repeats_nothing(self):
        handled = Counter[int]()
        lock, stopping = threading.Lock(), threading.Event()

        @subscribe("shops.Ordered")
        def ship(number: int) -> None:
            transaction.on_commit(lambda: count(number))

        @subscribe("shops.Ordered", ordered=True)
        def bill() -> None: ...

        def count(number: int) -> None:
            with lock:
                handled[number] += 1

        def emit(first: int) -> int:
            number = first
            while not stopping.is_set():
                outbox.given("shops.Ordered", order_id=uuid4(), number=number)
                number += 2
            return (number - first) // 2

        outbox = Outbox()
        with working(threads=2):
            emitters = [in_thread(lambda first=first: emit(first)) for first in (0, 1)]  # type: ignore[misc]
            eventually(lambda: len(handled) > 20, "orders before the conversion")
            convert_all()
            more = len(handled) + 20
            eventually(lambda: len(handled) > more, "orders after the conversion")
            stopping.set()
            numbers = [one() for one in emitters]
            eventually(
                lambda: (
                    not Delivery.objects.filter(state__in=Delivery.OWED).exists()
                    and not Event.objects.filter(fanned_out_at=None).exists()
                ),
                "all are handled",
            )

        assert [type(one) for one in numbers] == [int, int]
        total = sum(numbers)  # type: ignore[arg-type]
        assert Event.objects.count() == total
        assert Delivery.objects.filter(state="done").count() == 2 * total
        assert len(handled) == total
        assert set(handled.values()) == {1}
        assert Attempt.objects.count() == 0


class TestTwoRunsAtATime:
    def test_are_refused(self):
        with (
            in_another_transaction(f"SELECT pg_advisory_xact_lock({conversion._LOCK})"),
            pytest.raises(CannotPartition, match="Another run of this command"),
        ):
            convert_all()

        convert_all()

    def test_are_recognised_for_as_long_as_one_lasts(self):
        def refused_in_a_thread(_text: str) -> None:
            with pytest.raises(CannotPartition, match="Another run of this command"):
                raise in_thread(convert_all)()  # type: ignore[misc]

        convert_all(refused_in_a_thread)

    def test_leave_no_check_that_refuses_later_days(self):
        """A run that has waited for the lock of a check finds the table converted."""
        convert_all()
        high = first_seq(day_at(timezone.now()) + timedelta(days=2))

        for table in TABLES:
            preparation.check(table, high, using="default")

        assert preparation.leftover_checks(using="default") == []
        with days_later(3):
            keep_ahead(using="default")
            emit_orders(1)


class TestASecondOutboxInTheSearchPath:
    def test_keeps_its_prepared_indexes(self):
        """Its indexes have the same names."""
        index = preparation.INDEXES[0]
        preparation.build(index, using="default")
        rows("CREATE SCHEMA mine")
        rows("CREATE TABLE mine.outbox_event (LIKE outbox_event INCLUDING ALL)")
        rows("SET search_path = mine, public")

        assert not preparation.is_built(index, using="default")
        preparation.build(index, using="default")

        assert preparation.is_built(index, using="default")
        found = rows("SELECT schemaname FROM pg_indexes WHERE indexname = %s", index.name)
        assert sorted(found) == [("mine",), ("public",)]


class TestTheLockOfARun:
    @pytest.mark.parametrize(
        ("option", "value"), [("server_side_binding", True), ("prepare_threshold", 0)]
    )
    def test_keeps_no_snapshot_that_an_index_would_wait_for(
        self, option: str, value: object, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], option, value)

        with conversion._alone("default"):
            found = rows(
                "SELECT backend_xmin FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"
            )

        assert found == [(None,)]


class TestATransactionThatIsOpen:
    def test_is_no_place_for_a_conversion(self):
        with pytest.raises(Exception, match="transaction block"), transaction.atomic():
            convert_all()

        assert not is_partitioned(using="default")
