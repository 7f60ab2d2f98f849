"""Days that are not emptied, and partitions that are not dropped."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F

from outbox import operations, subscribe
from outbox.deliveries import failpoints
from outbox.doctor.past_days import examine
from outbox.models import Event
from outbox.partitions.ahead import jump, keep_ahead
from outbox.partitions.catalogue import EVENT, TABLES, partitions
from outbox.partitions.days import partition_name
from outbox.testing import Outbox
from tests.outbox.converted import days_later, rows

from .past import (
    NAME,
    OF_DAYS,
    handle,
    killed_and_given_up_at,
    prune,
    put,
    removal,
    set_sequence,
    settled,
    stored,
    yesterday,
)
from .test_days_and_transactions import acting_as_clerk

pytestmark = OF_DAYS


@pytest.fixture(autouse=True)
def handler(converted: None) -> None:
    """A handler that fails at its first attempt."""

    @subscribe(NAME, name="tests.write", backoff_base=0)
    def write(attempt: int) -> None:
        if attempt == 1:
            raise RuntimeError("the first one")


def names(table: str) -> set[str]:
    return {one.name for one in partitions(table, using="default")}


def emit_first(number: int) -> list[Event]:
    """Store events with the first numbers, as after `flush`, two days before now; handle them."""
    set_sequence(1)
    events = [Outbox().given(NAME, parcel_id=str(one)) for one in range(number)]
    Event.objects.update(emitted_at=F("emitted_at") - timedelta(days=2))
    handle()
    jump(yesterday() + timedelta(days=1), using="default")
    return events


class TestTheFirstPartition:
    def test_is_emptied_and_never_dropped(self):
        """`flush` and `loaddata` store small numbers, which no other partition takes."""
        emit_first(4)

        assert prune() == 4
        assert removal().state == "finished"

        assert all(f"{table}_before" in names(table) for table in TABLES)
        [event] = emit_first(1)
        assert stored() == {event.seq} == {1}


class TestARoleThatMayNotReadTheSequence:
    def test_prunes_row_by_row(self):
        settled(3)

        with acting_as_clerk(sequences="SELECT"):
            assert prune() == 3
            assert list(examine(using="default")) == []

        assert stored() == set()


class TestAPublication:
    @pytest.mark.parametrize(
        "tables",
        ["ALL TABLES", "TABLE outbox_delivery WITH (publish_via_partition_root = true)"],
    )
    def test_of_more_than_inserts_lets_the_day_be_pruned_row_by_row(
        self, tables: str, caplog: pytest.LogCaptureFixture
    ):
        """Subscribers would keep the rows: PostgreSQL publishes no emptying of a partition."""
        settled(4)
        rows(f"CREATE PUBLICATION mine FOR {tables}")

        assert prune() == 4

        assert "the publication mine has more than inserts" in caplog.text
        assert not operations.unfinished().exists()

    def test_of_inserts_does_not(self):
        settled(4)
        rows("CREATE PUBLICATION mine FOR ALL TABLES WITH (publish = 'insert')")

        assert prune() == 4

        assert removal().state == "finished"

    def test_that_is_created_while_a_day_is_closed_lets_it_be_opened_again(self):
        put(settled(4)[0], "dead")
        killed_and_given_up_at(failpoints.AFTER_CLOSE)
        rows("CREATE PUBLICATION mine FOR ALL TABLES")

        assert prune() == 3

        assert removal().state == "given_up"
        assert "mine" in removal().choice["why"]


class TestAForeignKey:
    @pytest.mark.parametrize("table", [EVENT, partition_name(EVENT, yesterday())])
    def test_to_the_events_lets_the_day_be_pruned_row_by_row(
        self, table: str, caplog: pytest.LogCaptureFixture
    ):
        owed, *_others = settled(4)
        put(owed, "dead")
        rows(f"CREATE TABLE notes (event bigint CONSTRAINT of_notes REFERENCES {table} (seq))")
        rows("INSERT INTO notes VALUES (%s)", owed.seq)

        assert prune() == 3

        assert stored() == {owed.seq}
        assert "the foreign key of_notes of notes refers to it" in caplog.text

    def test_that_is_created_while_a_day_is_closed_lets_it_be_opened_again(self):
        put(settled(4)[0], "dead")
        killed_and_given_up_at(failpoints.AFTER_SLICE)
        rows("CREATE TABLE notes (event bigint REFERENCES outbox_event (seq))")

        assert prune() == 3

        assert removal().state == "given_up"


class TestAView:
    def test_of_a_partition_ends_no_run_and_the_next_one_drops_it(
        self, caplog: pytest.LogCaptureFixture
    ):
        leaf = partition_name(EVENT, yesterday())
        settled(4)
        rows(f"CREATE VIEW mine AS SELECT * FROM {leaf}")

        assert prune() == 4

        assert "view mine depends on table" in caplog.text
        rows("DROP VIEW mine")
        prune()
        assert rows("SELECT to_regclass(%s)::text", leaf) == [(None,)]


class TestAClock:
    def test_that_was_ahead_lets_no_partition_be_dropped_that_is_created_again(self):
        """The sequence is ahead of the days of the clock."""
        with days_later(9):
            keep_ahead(using="default")

        prune()

        assert keep_ahead(using="default") == []

    def test_that_is_put_back_lets_no_partition_be_dropped_that_is_created_again(self):
        with days_later(-2):
            keep_ahead(using="default")
            prune()

            assert keep_ahead(using="default") == []
