"""Partitions as PostgreSQL's catalogue describes them."""

from __future__ import annotations

import pytest

from outbox.partitions.catalogue import EVENT, TABLES, is_partitioned, partitions
from outbox.partitions.days import day_of
from tests.outbox.converted import in_another_transaction, rows
from tests.threads import in_thread, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)


class TestTablesOfSqlite:
    @pytest.mark.sqlite
    def test_have_no_partitions(self):
        assert not is_partitioned(using="default")


@pytest.mark.postgresql
class TestPartitions:
    @pytest.mark.usefixtures("plain")
    def test_of_a_plain_table_are_none(self):
        assert not is_partitioned(using="default")
        assert partitions(EVENT, using="default") == []

    @pytest.mark.usefixtures("converted")
    def test_have_the_same_ranges_in_both_tables_and_touch_each_other(self):
        events, deliveries = (partitions(table, using="default") for table in TABLES)

        assert [(one.low, one.high) for one in events] == [
            (one.low, one.high) for one in deliveries
        ]
        assert [one.high for one in events[:-1]] == [one.low for one in events[1:]]
        assert {is_partitioned(table, using="default") for table in TABLES} == {True}

    @pytest.mark.usefixtures("converted")
    def test_are_named_after_their_day(self):
        last = partitions(EVENT, using="default")[-1]

        assert last.name == f"outbox_event_{day_of(last.low):%Y%m%d}"

    @pytest.mark.usefixtures("converted")
    def test_that_are_being_detached_are_marked(self):
        name = partitions(EVENT, using="default")[-1].name
        with in_another_transaction("LOCK TABLE outbox_event IN ACCESS SHARE MODE"):
            detached = in_thread(
                lambda: rows(f"ALTER TABLE outbox_event DETACH PARTITION {name} CONCURRENTLY")
            )
            wait_until_blocked(1)
            [pid] = rows(
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND datname = current_database()"
            )[0]
            rows("SELECT pg_terminate_backend(%s)", pid)
            assert isinstance(detached(), Exception)

        last = partitions(EVENT, using="default")[-1]
        assert (last.name, last.is_detaching) == (name, True)

    @pytest.mark.usefixtures("converted")
    def test_of_another_program_are_named_in_an_error(self):
        rows("CREATE TABLE others PARTITION OF outbox_event DEFAULT")

        with pytest.raises(ValueError, match="has the bound 'DEFAULT', which the outbox did not"):
            partitions(EVENT, using="default")
