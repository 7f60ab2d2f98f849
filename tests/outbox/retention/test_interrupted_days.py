"""Removals of days that are killed at each step, and run again."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import transaction
from pytest_django import Settings

from outbox import operations, subscribe
from outbox.deliveries import failpoints
from outbox.models import Attempt, Delivery
from outbox.partitions.catalogue import TABLES, partitions
from outbox.partitions.days import partition_name
from outbox.partitions.dropping import MARK
from outbox.retention import one_day
from tests.outbox.converted import rows
from tests.threads import in_thread, wait_until_blocked

from .past import (
    OF_DAYS,
    has_partition,
    killed_and_given_up_at,
    killed_at,
    prune,
    put,
    removal,
    seqs,
    settled,
    stored,
    yesterday,
)

pytestmark = OF_DAYS

IN_A_TRANSACTION = [failpoints.IN_SLICE, failpoints.AFTER_TRUNCATE, failpoints.IN_EMPTYING]
POINTS = [
    failpoints.AFTER_CLOSE,
    failpoints.AFTER_SLICE,
    *IN_A_TRANSACTION,
    failpoints.AFTER_EMPTYING,
]


@pytest.fixture(autouse=True)
def handler(converted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that fails at its first attempt; slices of two events."""

    @subscribe("parcels.ParcelSent", name="tests.write", backoff_base=0)
    def write(attempt: int) -> None:
        if attempt == 1:
            raise RuntimeError("the first one")

    monkeypatch.setattr(one_day, "_SLICE_BATCHES", 2)


class TestARemovalThatIsKilled:
    @pytest.mark.parametrize("point", POINTS)
    def test_is_finished_by_the_next_run(self, point: str, tmp_path: Path):
        owed, *others = settled(6)
        put(owed, "dead")

        killed_and_given_up_at(point, archive=tmp_path)
        assert owed.seq in stored()
        prune(batch=1, archive=tmp_path)

        assert stored() == {owed.seq}
        assert Delivery.objects.get().state == "dead"
        assert Attempt.objects.get().delivery_id == Delivery.objects.get().pk
        assert removal().state == "finished"
        assert archived(tmp_path) == seqs(*others)

    @pytest.mark.parametrize("point", POINTS)
    def test_is_left_alone_for_a_minute(self, point: str):
        """Its process may be alive. The events of other days are pruned meanwhile."""
        settled(6)
        killed_at(point)
        before = removal()

        assert prune(batch=1) == 0

        after = removal()
        assert (after.state, after.choice, after.cursor) == (
            "running",
            before.choice,
            before.cursor,
        )

    @pytest.mark.parametrize("point", IN_A_TRANSACTION)
    def test_has_changed_nothing_within_a_transaction(self, point: str):
        events = settled(6)
        attempts = Attempt.objects.count()

        killed_and_given_up_at(point)

        assert stored() == seqs(*events)
        done = removal()
        assert done.state == "running"
        if point == failpoints.IN_SLICE:
            assert Attempt.objects.count() == attempts

    def test_between_its_partitions_is_finished_by_the_next_run(self):
        settled(4)

        killed_at(failpoints.AFTER_DETACH, batch=10)
        assert len(number_of_partitions()) == 2
        prune()

        assert not has_partition()
        assert len(number_of_partitions()) == 1
        assert not tables_of_yesterday()

    def test_that_has_emptied_the_day_cannot_be_given_up(self):
        """The attempts of its events would stay, and no redaction finds them."""
        settled(4)
        killed_and_given_up_at(failpoints.AFTER_EMPTYING)

        with pytest.raises(operations.NotRunning, match="outbox prune"):
            operations.give_up(removal().pk, by="ann")

        prune()
        assert not Attempt.objects.exists()

    def test_that_has_emptied_the_day_is_finished_without_the_setting(self, settings: Settings):
        settled(4)
        killed_and_given_up_at(failpoints.AFTER_EMPTYING)
        assert Attempt.objects.count() == 4
        settings.OUTBOX = {**settings.OUTBOX, "PARTITION": ""}

        prune()

        assert removal().state == "finished"
        assert not Attempt.objects.exists()

    def test_that_has_not_emptied_the_day_is_not_continued_without_the_setting(
        self, settings: Settings
    ):
        events = settled(4)
        killed_and_given_up_at(failpoints.AFTER_SLICE)
        settings.OUTBOX = {**settings.OUTBOX, "PARTITION": ""}

        assert prune(older_than=timedelta(days=30)) == 0

        assert removal().state == "running"
        assert stored() == seqs(*events)

    def test_that_has_not_emptied_the_day_can_be_given_up(self):
        settled(4)
        killed_and_given_up_at(failpoints.AFTER_SLICE)

        operations.give_up(removal().pk, by="ann")

        assert operations.replay(operations.Choice(), by="ann", reason="a test").touched == 4

    def test_within_detach_is_finished_by_the_next_run(self):
        """`DETACH` waits for another transaction, and its process ends. It is then finalized."""
        for name in tables_of_yesterday():
            mark(name)
        with transaction.atomic():
            rows("SELECT count(*) FROM outbox_event")
            interrupt_detach("outbox_event", tables_of_yesterday()[1])

        prune()

        assert not has_partition()
        assert not tables_of_yesterday()


class TestATableThatHasRowsAfterItWasDetached:
    def test_is_kept_and_logged(self, caplog: pytest.LogCaptureFixture):
        """No transaction can store such a row. If a person does, it is not lost."""
        [event] = settled(1)
        leaf = tables_of_yesterday()[1]
        mark(leaf)

        prune(batch=1, older_than=None)

        assert rows(f'SELECT seq FROM "{leaf}"') == [(event.seq,)]
        assert "has rows, which nobody reads" in caplog.text


def archived(folder: Path) -> set[int]:
    texts = [gzip.decompress(one.read_bytes()).decode() for one in folder.glob("*.gz")]
    return {json.loads(line)["seq"] for text in texts for line in text.splitlines()}


def number_of_partitions() -> set[int]:
    return {len(partitions(table, using="default")) for table in TABLES}


def tables_of_yesterday() -> list[str]:
    """Return the names of its tables of deliveries and of events, attached or not."""
    names = (partition_name(table, yesterday()) for table in reversed(TABLES))
    return [name for name in names if rows("SELECT 1 FROM pg_class WHERE relname = %s", name)]


def mark(name: str) -> None:
    rows(f"COMMENT ON TABLE \"{name}\" IS '{MARK}'")


def interrupt_detach(parent: str, name: str) -> None:
    """Leave a partition as a `DETACH` leaves it whose process ends while it waits."""
    ended = in_thread(lambda: rows(f'ALTER TABLE {parent} DETACH PARTITION "{name}" CONCURRENTLY'))
    wait_until_blocked(1)
    rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s "
        "AND datname = current_database() AND pid <> pg_backend_pid()",
        "ALTER TABLE%",
    )
    ended()
    assert any(one.is_detaching for one in partitions(parent, using="default"))
