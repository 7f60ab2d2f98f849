"""With a month of partitions, a message and a pass of the relay lock few of them.

A statement locks each partition that PostgreSQL cannot leave out while it plans, with each index.
All processes together have room for 6,400 locks by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings as all_settings
from django.db import connection
from django.test import override_settings
from pytest_django import DjangoDbBlocker, Settings

from outbox import clock, subscribe
from outbox.deliveries import statements
from outbox.models import Attempt, Delivery
from outbox.partitions.ahead import keep_ahead
from outbox.partitions.catalogue import TABLES, partitions
from outbox.relay.reach import newest
from outbox.transports.base import Message
from outbox.worker.delivery import deliver
from tests.databases import fresh_database
from tests.outbox.converted import convert_days_ago, days_later, rows, used
from tests.outbox.drive import emit_orders, expire_leases_and_backoffs, run_message, run_pass

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

#: The first partition ends two days after the conversion. Seven days exist ahead.
DAYS_AGO, LEAVES = 24, 31


@pytest.fixture(scope="session")
def template_of_month(template_of_plain: str, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """Yield the name of a database with 31 partitions of each table."""
    given = fresh_database("postgresql", template=template_of_plain)
    with given as url, django_db_blocker.unblock():
        with used(url), override_settings(OUTBOX={**all_settings.OUTBOX, "PARTITION": "day"}):
            convert_days_ago(DAYS_AGO)
            for days in range(DAYS_AGO, -1, -1):
                with days_later(-days):
                    keep_ahead(using="default")
        yield url.rpartition("/")[2]


@pytest.fixture
def month(own_registry: None, template_of_month: str, settings: Settings) -> Iterator[None]:
    """Use a database of its own with 31 partitions of each table."""
    settings.OUTBOX = {**settings.OUTBOX, "PARTITION": "day", "NUDGE": False}
    with fresh_database("postgresql", template=template_of_month) as url, used(url):
        assert [len(partitions(table, using="default")) for table in TABLES] == [LEAVES, LEAVES]
        yield


@pytest.fixture
def locked(month: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[set[str]]]:
    """Return a function that does some work, and returns what each transaction locked at most.

    Locks are read after each statement. So statements are sent one by one, and none commits.
    """
    monkeypatch.setattr(statements, "_takes_many", lambda using: False)

    def measure(work: Callable[[], object]) -> list[set[str]]:
        with watched() as found:
            work()
        assert found
        return found

    return measure


@contextmanager
def watched() -> Iterator[list[set[str]]]:
    """Collect, after each statement, the outbox's tables and indexes that are locked."""
    found: list[set[str]] = []

    def watch(
        execute: Callable[..., object], sql: str, params: Any, many: bool, context: Any
    ) -> object:
        raw, is_alone = connection.connection, not connection.in_atomic_block
        if is_alone:
            raw.execute("BEGIN")
        done = execute(sql, params, many, context)
        found.append({name for (name,) in raw.execute(_LOCKED).fetchall()})
        if is_alone:
            raw.execute("COMMIT")
        return done

    with connection.execute_wrapper(watch):
        yield found


_LOCKED = """
SELECT DISTINCT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
LEFT JOIN pg_index i ON i.indexrelid = c.oid
LEFT JOIN pg_inherits h ON h.inhrelid = coalesce(i.indrelid, c.oid)
WHERE l.pid = pg_backend_pid() AND coalesce(h.inhparent, i.indrelid, c.oid)
    IN ('outbox_event'::regclass, 'outbox_delivery'::regclass)"""


def of_partitions(number: int) -> int:
    """Return the locks of both tables, of so many partitions of each, and of all their indexes."""
    ((indexes,),) = rows(
        "SELECT count(*) FROM pg_index "
        "WHERE indrelid IN ('outbox_event'::regclass, 'outbox_delivery'::regclass)"
    )
    return (number + 1) * (2 + int(indexes))


def leaves_of(found: list[set[str]]) -> set[str]:
    names = {one.name for table in TABLES for one in partitions(table, using="default")}
    return set[str]().union(*found) & names


def todays_leaves() -> set[str]:
    seq = Delivery.objects.latest("event").event_id
    found = [one for table in TABLES for one in partitions(table, using="default")]
    return {one.name for one in found if one.low <= seq < one.high}


def message_of(number: int) -> Message:
    emit_orders(number)
    [message] = run_pass()
    assert len(message.pairs) == number
    return message


class TestAMessage:
    def test_of_50_deliveries_locks_one_partition(self, locked: Callable[..., list[set[str]]]):
        """At most 58 locks for 15 and 12 indexes, instead of 928."""

        @subscribe("shops.Ordered")
        def keep() -> None: ...

        message = message_of(50)

        found = locked(lambda: run_message(message))

        assert Delivery.objects.filter(state="done").count() == 50
        assert leaves_of(found) == todays_leaves()
        assert max(map(len, found)) <= of_partitions(1)

    def test_without_its_range_locks_all(self, locked: Callable[..., list[set[str]]]):
        """A relay of the release before has sent it. It also shows that the locks are seen."""

        @subscribe("shops.Ordered")
        def keep() -> None: ...

        message = message_of(50)

        found = locked(
            lambda: deliver(handler_name=message.handler, pairs=message.pairs, worker="w1")
        )

        assert len(leaves_of(found)) == 2 * LEAVES
        assert max(map(len, found)) > of_partitions(LEAVES) / 2

    @pytest.mark.parametrize("options", [{}, {"atomic": False}])
    def test_that_fails_and_is_retried_locks_one_partition(
        self, locked: Callable[..., list[set[str]]], options: dict[str, Any]
    ):
        runs: list[int] = []

        def succeed_later() -> None:
            runs.append(1)
            if len(runs) == 1:
                raise ValueError

        if options:

            @subscribe("shops.Ordered", **options)
            def keep_with_receipt(receipt: Any) -> None:
                succeed_later()
                with receipt:
                    pass

        else:

            @subscribe("shops.Ordered")
            def keep() -> None:
                succeed_later()

        first = message_of(1)
        found = locked(lambda: run_message(first))
        expire_leases_and_backoffs()
        [again] = run_pass()
        found += locked(lambda: run_message(again))

        assert Delivery.objects.get().state == "done"
        assert Attempt.objects.get().outcome == "failed"
        assert leaves_of(found) == todays_leaves()
        assert max(map(len, found)) <= of_partitions(1)

    def test_whose_worker_is_paused_locks_one_partition(
        self, locked: Callable[..., list[set[str]]]
    ):
        """Its deliveries are parked, each under its lock."""

        @subscribe("shops.Ordered")
        def keep() -> None: ...

        message = message_of(3)
        rows("UPDATE outbox_subscription SET paused_at = now()")

        found = locked(lambda: run_message(message))

        assert Delivery.objects.filter(state="parked").count() == 3
        assert leaves_of(found) == todays_leaves()


class TestAPassOfTheRelay:
    def test_locks_the_partitions_of_three_days(self, locked: Callable[..., list[set[str]]]):
        """Yesterday's, today's and tomorrow's: at most 116 locks, instead of 928."""

        @subscribe("shops.Ordered")
        def keep() -> None: ...

        emit_orders(5)
        reach = newest(clock.now(), using="default")

        found = locked(lambda: run_pass(reach=reach))

        assert Delivery.objects.filter(state="sent").count() == 5
        assert len(leaves_of(found)) == 2 * 3
        assert max(map(len, found)) <= of_partitions(3)

    def test_that_sends_again_locks_them_too(self, locked: Callable[..., list[set[str]]]):
        @subscribe("shops.Ordered")
        def keep() -> None: ...

        message_of(5)
        expire_leases_and_backoffs()
        reach = newest(clock.now(), using="default")

        found = locked(lambda: run_pass(reach=reach))

        assert Delivery.objects.filter(state="sent", token=2).count() == 5
        assert max(map(len, found)) <= of_partitions(3)
