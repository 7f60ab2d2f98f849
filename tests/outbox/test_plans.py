"""Status, relay and lists read the big tables by an index, regardless of the stored rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models import Q
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox import subscribe
from outbox.alerts import problems
from outbox.alerts.configuration import LIMITS
from outbox.models import Attempt, Delivery, Event, Subscription
from outbox.monitor.failing import failing_groups
from outbox.monitor.status import status
from outbox.testing import Outbox
from outbox.worker.delivery import deliver
from tests.outbox.drive import run_pass
from tests.outbox.history import store
from tests.outbox.query_cost import queries, rows_read

STORED = 4000
BIG = ("outbox_event", "outbox_delivery")
SETTLEMENTS = "outbox_settlement"
OLD = 1500
#: For one query: rows on PostgreSQL, instructions on SQLite.
A_PAGE = {"postgresql": 500, "sqlite": 20_000}
#: The same for the sample of 200 failing deliveries, with their events and attempts.
A_SAMPLE = {"postgresql": 1000, "sqlite": 60_000}
FAILING = "outbox_delivery_failing"


@pytest.fixture
def history(own_registry: None) -> None:
    """Some thousand events; few of their deliveries are owed."""

    @subscribe("tests.Kept")
    def keep() -> None: ...

    @subscribe("tests.Kept")
    def count() -> None: ...

    @subscribe("others.Seldom")
    def wonder() -> None: ...

    Outbox()
    store(STORED, names=("tests.Kept",), rare="others.Seldom")
    rebuild_index_of_waiting_events()


def rebuild_index_of_waiting_events() -> None:
    """Remove entries of other tests' rolled back rows, which raise the cost of the index.

    PostgreSQL keeps them until a vacuum. With twenty pages of them it prefers a scan of the table.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT relkind FROM pg_class WHERE relname = 'outbox_event_waiting'")
            if cursor.fetchall() == [("i",)]:  # and not that of partitions
                cursor.execute("REINDEX INDEX outbox_event_waiting")


@pytest.fixture
def backlog(history: None) -> None:
    """A handler has thousands of pending deliveries, none of which has failed."""
    done = Delivery.objects.filter(subscription__handler="tests.count", state="done")
    done.update(
        state="pending",
        settled_at=None,
        attempts=0,
        token=0,
        started_token=0,
        started_at=None,
    )
    analyze()


def analyze() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def statements(work: Callable[[], object], *, of: str) -> list[str]:
    """The statements of some work that mention a table, those that only insert left out."""
    with CaptureQueriesContext(connection) as captured:
        work()
    trips = [query["sql"] for query in captured.captured_queries]
    selected = [sql for trip in trips for sql in trip.split(";\n")]  # some go together
    return [
        sql
        for sql in selected
        if re.search(rf"\b{of}\b", sql) and not sql.lstrip().startswith("INSERT")
    ]


def indexes(sql: str, *, of: str) -> set[str]:
    """The indexes of a table that a statement's plan names."""
    return set(re.findall(rf"\b{of}_\w+", "\n".join(plan(sql))))


def indexes_of(state: str) -> set[str]:
    """The indexes of deliveries in one state."""
    return {one.name for one in Delivery._meta.indexes if one.condition == Q(state=state)}


def is_of_failing(sql: str) -> bool:
    """Whether a statement is of the failing groups: no other has one of these conditions."""
    return any(part in sql for part in ('"started_token" >', '"token" >', "outbox_attempt"))


def plan(sql: str) -> list[str]:
    command = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(f"{command} {sql}")
        return [str(row[-1]) for row in cursor.fetchall()]


def is_scan(line: str) -> bool:
    if connection.vendor == "sqlite":
        return bool(re.search(r"SCAN (outbox_event|outbox_delivery|U\d)\b(?!.*INDEX)", line))
    return bool(re.search(r"Seq Scan on (outbox_event|outbox_delivery)\b", line))


def expensive(asked: list[str]) -> dict[str, int]:
    """The statements that read more than a sample, with the rows that they read."""
    found = {sql: rows_read(sql) for sql in set(asked)}
    return {sql: read for sql, read in found.items() if read > A_SAMPLE[connection.vendor]}


class TestAPlan:
    def test_that_reads_a_whole_table_is_found(self, history: None) -> None:
        """The inspection of plans detects a scan."""
        sql = str(Delivery.objects.filter(note="never").order_by("note").query)

        assert any(is_scan(line) for line in plan(sql.replace("never", "'never'")))


class TestTheStatus:
    def test_reads_deliveries_only_by_the_indexes_of_owed_deliveries(self, history: None) -> None:
        """Seen to fail where it counted what was done lately among the newest deliveries."""
        selected = [sql for sql in statements(status, of=BIG[1]) if SETTLEMENTS not in sql]
        found = [indexes(sql, of=BIG[1]) for sql in selected if not is_of_failing(sql)]

        assert len(found) == len(Delivery.OWED)
        for state, used in zip(Delivery.OWED, found, strict=True):
            assert used
            assert used <= indexes_of(state)

    def test_reads_failing_deliveries_only_by_their_index_and_by_id(self, backlog: None) -> None:
        """Without a backlog the index of pending deliveries is as small as that of failing ones."""
        selected = [sql for sql in statements(status, of=BIG[1]) if is_of_failing(sql)]

        allowed = {FAILING, f"{BIG[1]}_pkey", *indexes_of("sent")}
        assert len(selected) >= 3
        assert {one for sql in selected for one in indexes(sql, of=BIG[1])} <= allowed
        assert [line for sql in selected for line in plan(sql) if is_scan(line)] == []

    def test_reads_settlements_only_by_the_indexes_of_open_and_missing_ones(
        self, history: None
    ) -> None:
        selected = statements(status, of=SETTLEMENTS)

        assert [indexes(sql, of=SETTLEMENTS) for sql in selected] == [
            {f"{SETTLEMENTS}_due"},
            {f"{SETTLEMENTS}_missing"},
        ]
        assert not any(is_scan(line) for sql in selected for line in plan(sql))


class TestFailingGroups:
    @pytest.fixture
    def many_failing(self, backlog: None) -> None:
        """600 deliveries have failed once and wait again, beside a backlog of new ones."""
        mine = Delivery.objects.filter(subscription__handler="tests.keep")
        mine.filter(state="pending").update(state="done")
        some = list(mine.order_by("pk").values_list("pk", flat=True)[:600])
        rows, now = Delivery.objects.filter(pk__in=some), timezone.now()
        rows.update(state="pending", settled_at=None, attempts=1, started_token=1, token=1)
        Attempt.objects.bulk_create(
            Attempt(
                delivery=row, number=1, started_at=now, ended_at=now, outcome="failed",
                exception="KeyError", place="kept:7 keep",
            )
            for row in rows
        )  # fmt: skip
        analyze()

    def test_read_a_sample_however_many_deliveries_are_failing(self, many_failing: None) -> None:
        with CaptureQueriesContext(connection) as captured:
            (found,) = failing_groups(handlers=["tests.keep"])

        assert found.is_least
        assert 20 <= found.number <= 200  # all are due at one time, so parts of the sample overlap
        asked = [query["sql"] for query in captured.captured_queries]
        counts = [sql for sql in asked if "COUNT(" in sql and f'"{BIG[1]}"' in sql]
        assert [indexes(sql, of=BIG[1]) for sql in counts] == [{FAILING}]
        assert expensive(asked) == {}

    def test_cost_a_check_of_alerts_no_more_with_a_backlog(
        self, many_failing: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seen to fail with the status, which counts all pending deliveries."""
        monkeypatch.setattr(problems, "MOST_DEAD", 100)
        with CaptureQueriesContext(connection) as captured:
            problems.find(LIMITS, using="default")

        asked = [query["sql"] for query in captured.captured_queries]
        assert expensive(asked) == {}


class TestADelivery:
    def test_is_in_at_most_two_more_indexes_until_it_is_done(self) -> None:
        """Each further index would slow down every delivery."""
        passed = [indexes_of(state) for state in ("pending", "sent", "done")]

        assert passed == [{"outbox_delivery_pending"}, {"outbox_delivery_sent"}, set()]


class TestAMessage:
    def test_finds_its_deliveries_by_their_ids(self, history: None) -> None:
        """Seen to fail, on PostgreSQL, where the state was asked for as the index has it."""
        subscription = Delivery.objects.latest("pk").subscription
        newest = Delivery.objects.filter(subscription=subscription).order_by("-pk")[:8]
        pairs = [(pk, 2) for pk in newest.values_list("pk", flat=True)]
        Delivery.objects.filter(pk__in=dict(pairs)).update(state="sent", token=2, settled_at=None)

        selected = statements(
            lambda: deliver(handler_name=subscription.handler, pairs=pairs, worker="w1"), of=BIG[1]
        )

        assert Delivery.objects.filter(pk__in=dict(pairs), state="done").count() == 8
        assert selected
        assert indexes_of("sent").isdisjoint(
            {one for sql in selected for one in indexes(sql, of=BIG[1])}
        )


class TestAListOfDeadDeliveries:
    @pytest.fixture
    def old(self, history: None) -> None:
        """Many deliveries are dead, the oldest of all."""
        first = Delivery.objects.earliest("pk").pk
        Delivery.objects.filter(pk__lt=first + OLD).update(state="dead", settled_at=None)
        analyze()

    @pytest.mark.parametrize(
        "address", ["delivery/?state=dead", "delivery/dead/", "event/?state=dead"]
    )
    def test_reads_only_its_page_regardless_of_later_deliveries(
        self,
        old: None,
        address: str,
        admin_client: Client,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Seen to fail without the indexes of what is dead that are in the lists' order; and, on
        PostgreSQL, where events were asked for at once.
        """
        monkeypatch.setattr("outbox.admin.dead_letters._GROUPED", 50)

        asked = queries(admin_client, f"/admin/outbox/{address}")

        most = {sql: read for sql in asked if (read := rows_read(sql)) > A_PAGE[connection.vendor]}
        assert most == {}


class TestTheRelay:
    def test_reads_no_big_table_completely(self, history: None) -> None:
        Outbox().given("tests.Kept", kept_id=uuid4())

        selected = [sql for of in BIG for sql in statements(_pass, of=of)]

        assert selected
        assert [line for sql in selected for line in plan(sql) if is_scan(line)] == []

    @pytest.mark.postgresql
    def test_sorts_no_backlog_without_statistics(self, own_registry: None) -> None:
        """Seen to fail where it was left the choice: all that waits was read and sorted for each
        page, of a backlog of 50,000 in 25 ms.
        """

        @subscribe("tests.Kept")
        def keep() -> None: ...

        Outbox()
        row, now = Subscription.objects.get(), timezone.now()
        events = Event.objects.bulk_create(waiting_event(now) for _ in range(STORED))
        Delivery.objects.bulk_create(
            Delivery(event=event, subscription=row, state="pending", due_at=now)
            for event in events[: STORED // 2]
        )
        Event.objects.filter(pk__lte=events[STORED // 2].pk).update(fanned_out_at=now)

        plans = plans_when_sent(_pass)

        assert Delivery.objects.filter(state="sent").exists()
        pages = {sql: plan for sql, plan in plans if "SKIP LOCKED" in sql and " LIMIT " in sql}
        assert sorted(re.findall(r"outbox_\w+", sql)[0] for sql in pages) == sorted(BIG)
        assert [line for plan in pages.values() for line in plan if is_sort(line)] == []

    @pytest.mark.postgresql
    def test_finds_earlier_events_of_a_key_by_their_index_without_statistics(
        self, own_registry: None
    ) -> None:
        """Seen to fail with the choice left to the planner: it read all that waits in each pass."""
        now = timezone.now()
        Event.objects.bulk_create(
            waiting_event(now, key=uuid4().hex, share="small" if number >= STORED - 20 else "large")
            for number in range(STORED)
        )

        plans = plans_when_sent(_pass)

        (found,) = [plan for sql, plan in plans if "unnest" in sql]
        used = [line for line in found if "Index" in line and "Scan" in line]
        assert used
        assert all("outbox_event_waiting_key" in line for line in used), used
        assert Event.objects.filter(share="small", fanned_out_at=None).count() == 0

    @pytest.mark.postgresql
    def test_restores_the_planner_settings_after_a_page(self, own_registry: None) -> None:
        """Seen to fail with a setting for the whole pass: what has no index in its order was sought
        in all that is stored, and a test's own queries after it, too.
        """

        @subscribe("tests.Kept")
        def keep() -> None: ...

        Outbox().given("tests.Kept", kept_id=uuid4())
        _pass()

        with connection.cursor() as cursor:
            cursor.execute("SHOW enable_sort")
            assert cursor.fetchone() == ("on",)


def plans_when_sent(work: Callable[[], object]) -> list[tuple[str, list[str]]]:
    """The SELECTs of some work, each with its plan under the settings that it is sent under."""
    found: list[tuple[str, list[str]]] = []

    def explain(
        execute: Callable[..., object], sql: str, params: object, many: bool, context: Any
    ) -> object:
        with connection.connection.cursor() as cursor:
            for part in cursor.mogrify(sql, params).split(";\n"):
                if part.startswith("SET"):
                    cursor.execute(part)
                elif part.lstrip().startswith("SELECT"):
                    cursor.execute(f"EXPLAIN {part}")
                    found.append((part, [line for (line,) in cursor.fetchall()]))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        work()
    return found


def waiting_event(at: datetime, **more: Any) -> Event:
    given = {"name": "tests.Kept", "key": "", "payload": {}, **more}
    return Event(**given, emitted_at=at, correlation_id=uuid4())


def is_sort(line: str) -> bool:
    """Whether it sorts all that it reads; an incremental sort stops behind those of one moment."""
    return bool(re.match(r"\W*Sort\s+\(", line))


def _pass() -> None:
    run_pass()
