"""The doctor's findings about partitions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pytest_django import Settings

from outbox import clock
from outbox.doctor import partitions as doctor
from outbox.partitions import room
from outbox.partitions.ahead import keep_ahead
from outbox.partitions.catalogue import DELIVERY, TABLES
from outbox.partitions.days import PER_DAY, day_at, first_seq, partition_name
from tests.outbox.converted import acting_as_visitor, days_later, rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]


def findings() -> list[tuple[str, str]]:
    return [(one.severity, one.text) for one in doctor.examine(using="default")]


@pytest.mark.usefixtures("plain")
class TestPlainTables:
    def test_are_to_be_converted_with_the_setting(self):
        assert findings() == [
            ("warning", 'OUTBOX["PARTITION"] is set, and the tables have no partitions.')
        ]

    def test_are_no_finding_without_it(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "PARTITION": ""}

        assert findings() == []


@pytest.mark.usefixtures("converted")
class TestConvertedTables:
    def test_are_all_right(self):
        severity, text = findings()[0]

        assert severity == "ok"
        assert text.endswith("partitions of each table, and those of the next days exist.")

    def test_need_the_setting(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "PARTITION": ""}

        assert findings()[0] == (
            "error",
            'The tables have partitions, and OUTBOX["PARTITION"] is not set. No relay creates '
            "those of the next days, and each statement locks all of them.",
        )

    def test_without_a_partition_of_tomorrow_are_an_error(self):
        with days_later(7):
            found = list(doctor.examine(using="default"))

        assert ("error", "Tomorrow has no partition. Events of coming days are stored with "
                "earlier ones.") in [(one.severity, one.text) for one in found]  # fmt: skip

    def test_without_the_partitions_of_later_days_are_a_warning(self):
        """Failed: until tomorrow had none, "those of the next days exist"."""
        with days_later(4):
            first = day_at(clock.now()) + timedelta(days=4)
            found = list(doctor.examine(using="default"))

        text = f"{first} has no partition. Partitions are created 7 days ahead."
        [finding] = [one for one in found if one.text == text]
        assert finding.severity == "warning"
        assert "read its log" in finding.advice

    def test_without_the_last_one_wait_for_the_daily_run(self):
        with days_later(1):
            texts = [text for _severity, text in findings()]

        assert not [text for text in texts if "has no partition" in text]

    def test_without_a_partition_and_of_another_owner_name_the_command_to_schedule(self):
        with days_later(7), acting_as_visitor():
            found = list(doctor.examine(using="default"))

        assert "a relay with this role cannot create them" in found[0].advice
        assert "once a day as the owner" in found[0].advice

    def test_with_the_numbers_of_an_earlier_day_are_a_warning(self):
        with days_later(1.5):
            assert (
                "warning",
                "Events of today are stored in the partition of an earlier day. They are safe. "
                "That partition is removed later, since it has events of several days.",
            ) in findings()

            found = doctor.examine(using="default")
            [advice] = [one.advice for one in found if one.text.startswith("Events of today")]
            [[role]] = rows("SELECT quote_ident(current_user)")
            assert f"outbox_event_seq_seq TO {role}. If it is another one, name that" in advice
            assert "If it is the role of this command: GRANT" in advice

            keep_ahead(using="default")
            assert findings()[0][0] == "ok"

    def test_with_an_interrupted_removal_are_a_warning(self):
        name = partition_name(DELIVERY, day_at(clock.now()) + timedelta(days=2))
        rows("UPDATE pg_inherits SET inhdetachpending = true WHERE inhrelid = %s::regclass", name)

        assert findings()[0] == (
            "warning",
            f"The removal of the partition {name} was interrupted.",
        )

    def test_with_the_check_of_another_range_are_an_error(self):
        """Each emit of a later day would fail."""
        rows("ALTER TABLE outbox_event ADD CONSTRAINT outbox_event_range CHECK (seq < 10 ^ 17)")

        assert findings()[0] == (
            "error",
            "The check outbox_event_range refuses the rows of later days.",
        )

    def test_with_a_role_that_may_not_number_its_rows_are_an_error(self):
        rows("GRANT INSERT (name) ON outbox_event TO PUBLIC")

        assert findings()[0] == (
            "error",
            "The role PUBLIC has INSERT on outbox_event, but no USAGE on its sequence, so each "
            "insert fails.",
        )
        rows("GRANT USAGE ON SEQUENCE outbox_event_seq_seq TO PUBLIC")
        assert findings()[0][0] == "ok"

    def test_of_a_role_that_may_not_read_the_sequence_are_a_warning(self):
        with acting_as_visitor():
            assert findings()[0] == (
                "warning",
                "This role may not read the sequence of events. Relays with this role read all "
                "partitions.",
            )

    def test_with_a_foreign_key_to_them_are_an_error(self):
        rows("CREATE TABLE mine (event bigint CONSTRAINT mine_event REFERENCES outbox_event)")

        assert findings()[0] == (
            "error",
            "The foreign key mine_event of mine refers to outbox_event. No day can be removed.",
        )

    def test_with_a_publication_of_changes_are_an_error(self):
        rows(
            "CREATE PUBLICATION events FOR TABLE outbox_event WITH "
            "(publish = 'insert, delete', publish_via_partition_root = true)"
        )

        assert findings()[0] == (
            "error",
            "The publication events has more than the inserts of outbox_event. Subscribers would "
            "keep the rows of removed days.",
        )

    def test_with_a_publication_of_their_partitions_are_an_error(self):
        """Without `publish_via_partition_root` it has the partitions, and not the tables."""
        rows("CREATE PUBLICATION events FOR ALL TABLES")

        assert findings()[0] == (
            "error",
            "The publication events has more than the inserts of outbox_event. Subscribers would "
            "keep the rows of removed days.",
        )

    def test_with_a_partition_of_one_table_only_are_an_error(self):
        day = day_at(clock.now()) + timedelta(days=1)
        rows(f"ALTER TABLE {DELIVERY} DETACH PARTITION {partition_name(DELIVERY, day)}")

        found = findings()

        low = first_seq(day)
        assert (
            "error",
            f"Events and deliveries have different partitions from the number {low} on.",
        ) in found

    def test_with_a_partition_of_a_week_are_an_error(self):
        low = first_seq(day_at(clock.now()) + timedelta(days=20))
        for table in TABLES:
            rows(f"CREATE TABLE {table}_week (LIKE {table} INCLUDING ALL)")
            rows(
                f"ALTER TABLE {table} ATTACH PARTITION {table}_week "
                f"FOR VALUES FROM ({low}) TO ({low + 7 * PER_DAY})"
            )

        assert findings()[0] == (
            "error",
            "The partition outbox_event_week covers 7 days instead of one.",
        )

    def test_with_many_more_days_than_the_retention_are_a_warning(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "RETENTION": {"default": 1}}
        with days_later(7):
            keep_ahead(using="default")
            assert findings()[0] == (
                "warning",
                "Each table has 17 partitions, and 9 are expected. With each one, statements get "
                "slower and need more locks.",
            )

    def test_with_days_that_one_event_keeps_for_ever_name_its_type(self, settings: Settings):
        """Failed: the advice was to set a default retention, prune and settle: all done already."""
        retention = {"default": 1, "shops.Paid": None, "shops.Billed": None}
        settings.OUTBOX = {**settings.OUTBOX, "RETENTION": retention}
        with days_later(7):
            keep_ahead(using="default")
            [found, *_] = doctor.examine(using="default")

        assert found.text.startswith("Each table has 17 partitions, and 9 are expected.")
        assert found.advice == (
            'OUTBOX["RETENTION"] keeps shops.Billed, shops.Paid for ever. The partition of each '
            "day with such an event stays, so their number grows without end. Keep these types "
            "for a number of days, and set an ARCHIVE to have them as files afterwards."
        )

    def test_without_a_default_retention_need_one_first(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "RETENTION": {"shops.Paid": None, "shops.Sent": 1}}
        with days_later(7):
            keep_ahead(using="default")
            [found, *_] = doctor.examine(using="default")

        assert found.advice.startswith('Set OUTBOX["RETENTION"]["default"] to a number of days')

    def test_with_too_few_locks_are_a_warning(self, monkeypatch: pytest.MonkeyPatch):
        facts = "SELECT 64, 100, 27"
        monkeypatch.setattr(room, "_FACTS", facts)

        assert findings()[-1] == (
            "warning",
            "A statement about 38 days of partitions takes 1,131 locks, and "
            "max_locks_per_transaction is 64.",
        )

    def test_with_enough_locks_are_no_warning(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(room, "_FACTS", "SELECT 566, 100, 27")

        assert [severity for severity, _text in findings()] == ["ok"]
