"""`manage.py outbox partition`."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from outbox.partitions.ahead import DAYS_AHEAD
from outbox.partitions.catalogue import EVENT, is_partitioned, partitions
from tests.outbox.command import outbox_command, refused
from tests.outbox.converted import (
    acting_as_visitor,
    days_later,
    in_another_transaction,
    rows,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]


class TestTheCommand:
    @pytest.mark.usefixtures("plain")
    def test_converts_the_tables_and_reports_each_step(self):
        output = outbox_command("partition")

        assert is_partitioned(using="default")
        assert "Replace the tables by partitioned ones, in one short transaction." in output
        assert output.endswith("Events and deliveries are in partitions of a day.\n")

    @pytest.mark.usefixtures("plain")
    def test_lists_the_steps_and_changes_nothing_in_a_dry_run(self):
        output = outbox_command("partition", "--dry-run")

        assert output.splitlines()[0] == (
            "to do: Build the index outbox_event_before_id of outbox_event (id), beside writes."
        )
        assert len(output.splitlines()) == 8
        assert not is_partitioned(using="default")

    @pytest.mark.usefixtures("plain")
    @pytest.mark.parametrize("options", [[], ["--dry-run"]])
    def test_warns_of_types_that_are_kept_for_ever(self, options: list[str], settings: Settings):
        retention = {"default": 30, "shops.Paid": None}
        settings.OUTBOX = {**settings.OUTBOX, "RETENTION": retention}

        output = outbox_command("partition", *options)

        assert 'OUTBOX["RETENTION"] keeps shops.Paid for ever.' in output.splitlines()[0]

    @pytest.mark.usefixtures("plain")
    def test_lists_the_steps_that_an_interrupted_run_has_done(self):
        rows("CREATE INDEX outbox_event_before_id ON outbox_event (id)")

        assert outbox_command("partition", "--dry-run").startswith("done: Build the index")

    @pytest.mark.usefixtures("converted")
    def test_creates_the_partitions_of_the_next_days(self):
        before = len(partitions(EVENT, using="default"))

        with days_later(2):
            output = outbox_command("partition")

        assert output.splitlines()[0] == (
            f"Create the partitions up to {DAYS_AHEAD} days ahead, and number events by the "
            "present day."
        )
        assert len(partitions(EVENT, using="default")) == before + 2

    @pytest.mark.usefixtures("converted")
    def test_lets_the_sequence_jump_without_a_missing_partition(self):
        from outbox.partitions.ahead import last_seq

        before = last_seq(using="default")
        with days_later(1):
            outbox_command("partition")
            first = last_seq(using="default")
            outbox_command("partition")

            assert before < first == last_seq(using="default")

    @pytest.mark.usefixtures("converted")
    def test_is_refused_for_a_role_that_may_create_no_partition(self):
        """Otherwise a daily job would end well, and no day would get a partition."""
        with (
            days_later(2),
            acting_as_visitor("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"),
        ):
            text = refused("partition")

        assert "is not the owner of outbox_event. Run this command as shop." in text

    @pytest.mark.usefixtures("plain")
    def test_names_the_reasons_against_it(self):
        rows("CREATE VIEW names AS SELECT name FROM outbox_event")

        text = refused("partition")

        assert text.startswith("The tables were not changed.\noutbox_event is used by: rule")

    @pytest.mark.usefixtures("plain")
    def test_names_the_reasons_in_a_dry_run(self):
        rows("CREATE VIEW names AS SELECT name FROM outbox_event")

        assert "outbox_event is used by: rule" in refused("partition", "--dry-run")

    @pytest.mark.usefixtures("converted")
    @pytest.mark.parametrize("options", [[], ["--dry-run"]])
    def test_names_a_partition_that_the_outbox_did_not_create(self, options: list[str]):
        rows("CREATE TABLE strays PARTITION OF outbox_event DEFAULT")

        assert "which the outbox did not create. Detach" in refused("partition", *options)

    @pytest.mark.usefixtures("plain")
    def test_says_that_a_conversion_was_begun_if_it_gives_up(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("outbox.partitions.swap.LONGEST_SECONDS", 0.5)
        with in_another_transaction("SELECT count(*) FROM outbox_attempt"):
            text = refused("partition")

        assert "The tables were not changed." not in text
        assert "The tables are not partitioned yet. Their new indexes and checks stay." in text
        assert rows("SELECT 1 FROM pg_class WHERE relname = 'outbox_event_before_id'") == [(1,)]
