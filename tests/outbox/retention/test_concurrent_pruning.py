"""Pruning does not slow down other processes: it uses indexes, and flushes asynchronously."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.utils import timezone

from outbox import operations, retention, subscribe
from outbox.models import Attempt, Delivery, Event, Subscription
from outbox.testing import Outbox

pytestmark = [
    pytest.mark.usefixtures("own_registry"),
    pytest.mark.django_db(transaction=True),  # what it sets holds in transactions of its own only
]

MONTH = timedelta(days=30)
STORED = 4000
TYPES = 10
BATCH = 40
# Of a table, and of an index from its first entry to its last.
SCAN = re.compile(
    r"Seq Scan on outbox_\w+|Index (Only )?Scan using \S+ on outbox_[^\n]+\n(?!\s+Index Cond)"
    r"|\bSCAN (?!CONSTANT)\w+"
)

READ = re.compile(r"\s*(SELECT|DELETE)\b.*outbox_(event|delivery|attempt)", re.DOTALL)


@pytest.fixture
def history() -> None:
    """Some thousand old events of several types in turn, settled at the second attempt.

    The planner has no statistics of the tables.
    """

    @subscribe("tests.Kept1")
    def keep() -> None: ...

    Outbox()
    old = timezone.now() - 2 * MONTH
    events = Event.objects.bulk_create(
        Event(
            name=f"tests.Kept{number % TYPES}",
            key=str(number),
            payload={},
            emitted_at=old,
            correlation_id=uuid4(),
            fanned_out_at=old,
        )
        for number in range(STORED)
    )
    handler = Subscription.objects.get()
    deliveries = Delivery.objects.bulk_create(
        Delivery(event=event, subscription=handler, state="done", due_at=old, settled_at=old)
        for event in events
    )
    Attempt.objects.bulk_create(
        Attempt(delivery=row, number=1, started_at=old, ended_at=old, outcome="failed")
        for row in deliveries
    )


@pytest.fixture
def dear_indexes() -> Iterator[None]:
    """Let the planner of PostgreSQL expect that a lookup in an index costs more than a scan."""
    with connection.cursor() as cursor:
        cursor.execute("SET random_page_cost = 1000000")
        yield
        cursor.execute("RESET random_page_cost")


class Watch:
    """Inspects each statement of the outbox's big tables before it runs."""

    def __init__(self, look: Callable[[str, Any], list[str]]) -> None:
        self.look = look
        self.inspected: list[tuple[str, list[str]]] = []
        self._looks = False

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not self._looks and re.match(
            r"\s*(SELECT|DELETE)\b.*outbox_(event|deliv|att)", sql, re.S
        ):
            self._looks = True
            self.inspected.append((sql, self.look(sql, params)))
            self._looks = False
        return execute(sql, params, many, context)


def plan(sql: str, params: Any) -> list[str]:
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    return answers(f"{explain} {sql}", params)


def answers(sql: str, params: Any = None) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return [str(row[-1]) for row in cursor.fetchall()]


def watched(look: Callable[[str, Any], list[str]], **how: Any) -> list[tuple[str, list[str]]]:
    """Prune all events, and return the results of the inspection."""
    watch = Watch(look)
    with connection.execute_wrapper(watch):
        retention.prune(older_than=MONTH, archive="", **how)
    return watch.inspected


class TestABatch:
    def test_is_found_and_deleted_with_indexes_only(self, history: None):
        """Seen to fail with sequential scans allowed, and with `EXISTS` for the first debt."""
        inspected = watched(plan, batch=BATCH)

        kinds = {sql.split()[0] for sql, _ in inspected}
        scans = [lines for _, lines in inspected if SCAN.search("\n".join([*lines, ""]))]
        assert kinds == {"SELECT", "DELETE"}
        assert scans == []
        assert not Event.objects.exists()
        assert not Attempt.objects.exists()

    @pytest.mark.postgresql
    def test_is_found_with_indexes_only_if_the_planner_prefers_scans(
        self, history: None, dear_indexes: None
    ):
        """Statistics from before the events were stored can have the same effect."""
        inspected = watched(plan, batch=BATCH)

        assert [lines for _, lines in inspected if SCAN.search("\n".join([*lines, ""]))] == []

    def test_is_read_by_name_and_seq_regardless_of_the_statistics(self, history: None):
        """Seen to fail on PostgreSQL when asked for the name and, apart from it, the seq."""
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE outbox_event")

        inspected = watched(plan, batch=BATCH)

        walks = ["\n".join(lines) for sql, lines in inspected if "ORDER BY name, seq" in sql]
        assert walks
        assert [one for one in walks if "outbox_event_name" not in one or "Sort" in one] == []


@pytest.mark.postgresql
class TestTheTransactionsOfABatch:
    def test_are_not_waited_for(self, history: None):
        inspected = watched(show_commit, batch=STORED)

        removals = [lines for sql, lines in inspected if sql.startswith("DELETE")]
        assert removals == [["off"]] * len(removals) != []
        assert answers("SHOW synchronous_commit") == ["on"]
        assert answers("SHOW enable_seqscan") == ["on"]

    def test_leave_the_transaction_of_a_caller_unchanged(self, history: None):
        with transaction.atomic():
            assert operations.prune(older_than=MONTH, batch=STORED) == STORED

            assert answers("SHOW synchronous_commit") == ["on"]
            assert answers("SHOW enable_seqscan") == ["on"]


def show_commit(_sql: str, _params: Any) -> list[str]:
    return answers("SHOW synchronous_commit")
