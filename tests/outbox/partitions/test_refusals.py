"""Reasons against a conversion: each is found before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.db import connection
from pytest_django import Settings

from outbox.partitions import room
from outbox.partitions.catalogue import is_partitioned
from outbox.partitions.conversion import CannotPartition, convert
from outbox.partitions.refusals import refusals
from tests.outbox.converted import acting_as_visitor, rows

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.postgresql,
    pytest.mark.usefixtures("plain"),
]

_OBJECTS = """
SELECT relname, relkind::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace
UNION SELECT conname, contype::text FROM pg_constraint"""


@contextmanager
def refused() -> Iterator[list[str]]:
    """Convert after the block; yield the list that the refusal is put into. Nothing changes."""
    found: list[str] = []
    yield found
    before = set(rows(_OBJECTS))
    with pytest.raises(CannotPartition) as caught:
        convert(using="default")
    found.append(str(caught.value))
    assert set(rows(_OBJECTS)) == before
    assert not is_partitioned(using="default")


def refusal_after(*statements: str) -> str:
    with refused() as found:
        for statement in statements:
            rows(statement)
    return found[0]


class TestAConversionIsRefused:
    def test_without_the_setting(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "PARTITION": ""}

        assert refusal_after() == (
            'OUTBOX["PARTITION"] is not set. Set it to "day" and restart all processes. '
            "Then run this command again."
        )

    def test_before_a_migration(self):
        call_command("migrate", "outbox", "0022", verbosity=0)

        assert "lacks migrations of the outbox, from 0023_tenant_index on" in refusal_after()

    def test_with_a_foreign_key_of_another_table(self):
        text = refusal_after(
            "CREATE TABLE mine (event bigint CONSTRAINT mine_event REFERENCES outbox_event)"
        )

        assert text == (
            "The foreign key mine_event of mine refers to outbox_event, whose rows are removed. "
            "Store the event's id in a column without a foreign key, and drop the constraint."
        )

    def test_with_a_view(self):
        text = refusal_after("CREATE VIEW names AS SELECT name FROM outbox_event")

        assert text == (
            "outbox_event is used by: rule _RETURN on view names. It would stay with the first "
            "partition. Drop it, convert the tables, and create it again."
        )

    def test_with_a_trigger(self):
        text = refusal_after(
            "CREATE TRIGGER minimal BEFORE UPDATE ON outbox_delivery FOR EACH ROW "
            "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        )

        assert "outbox_delivery is used by: trigger minimal on table outbox_delivery." in text

    def test_with_a_rule(self):
        text = refusal_after("CREATE RULE ignored AS ON DELETE TO outbox_event DO INSTEAD NOTHING")

        assert "outbox_event is used by: rule ignored on table outbox_event." in text

    def test_with_a_function_that_takes_its_rows(self):
        text = refusal_after(
            "CREATE FUNCTION named(outbox_event) RETURNS text LANGUAGE sql AS 'SELECT $1.name'"
        )

        assert "outbox_event is used by: function named(outbox_event)." in text

    def test_with_row_level_security(self):
        text = refusal_after("ALTER TABLE outbox_event ENABLE ROW LEVEL SECURITY")

        assert "outbox_event has row-level security." in text

    def test_with_inheritance(self):
        text = refusal_after("CREATE TABLE older () INHERITS (outbox_event)")

        assert "outbox_event inherits from a table, or another table from it." in text

    def test_with_a_unique_index_that_lacks_the_partition_key(self):
        text = refusal_after("CREATE UNIQUE INDEX once ON outbox_event (key, name)")

        assert text == (
            "The unique index once of outbox_event lacks the partition key seq. Drop it, or "
            "replace it by one that contains seq."
        )

    def test_with_an_index_as_replica_identity(self):
        text = refusal_after(
            "ALTER TABLE outbox_event REPLICA IDENTITY USING INDEX outbox_event_id_key"
        )

        assert "The replica identity of outbox_event is an index." in text

    def test_with_an_invalid_index(self):
        text = refusal_after(
            "CREATE INDEX broken ON outbox_event (key)",
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass",
        )

        assert "The index broken of outbox_event is invalid." in text

    def test_with_a_publication_that_names_partitions(self):
        """Debezium would ignore the partitions, whose names it does not know."""
        text = refusal_after("CREATE PUBLICATION events FOR TABLE outbox_event")

        assert text.endswith("ALTER PUBLICATION events SET (publish_via_partition_root = true).")

    def test_with_a_publication_of_all_tables_that_names_partitions(self):
        text = refusal_after("CREATE PUBLICATION events FOR ALL TABLES")

        assert "ALTER PUBLICATION events SET (publish_via_partition_root = true)." in text

    @pytest.mark.parametrize("publish", ["insert, update", "delete", "insert, truncate"])
    def test_with_a_publication_of_changes(self, publish: str):
        """A day is removed without a DELETE, and the rows that stay are stored again."""
        text = refusal_after(
            "CREATE PUBLICATION events FOR TABLE outbox_delivery (id, state) WITH "
            f"(publish = '{publish}', publish_via_partition_root = true)"
        )

        assert text == (
            "The publication events has more than the inserts of outbox_delivery. Subscribers "
            "would keep the rows of removed days. Run ALTER PUBLICATION events SET (publish = "
            "'insert')."
        )

    def test_with_a_foreign_key_of_a_column_of_the_project(self):
        text = refusal_after(
            "CREATE TABLE tenants (id bigint PRIMARY KEY)",
            "ALTER TABLE outbox_event ADD COLUMN mine bigint "
            "CONSTRAINT event_tenant REFERENCES tenants",
        )

        assert text == (
            "The foreign key event_tenant of outbox_event would be lost. Drop the constraint. "
            "Its column stays."
        )

    def test_with_a_check_that_is_not_validated(self):
        text = refusal_after(
            "ALTER TABLE outbox_event ADD CONSTRAINT short CHECK (length(name) < 200) NOT VALID"
        )

        assert text == (
            "The constraint short of outbox_event is not validated. Validate or drop it."
        )

    def test_with_a_check_that_partitions_do_not_inherit(self):
        text = refusal_after(
            "ALTER TABLE outbox_event ADD CONSTRAINT short CHECK (length(name) < 200) NO INHERIT"
        )

        assert text == (
            "The constraint short of outbox_event is NO INHERIT. Replace it by one that "
            "partitions inherit."
        )

    @pytest.mark.parametrize("parameter", ["INCREMENT 2", "CYCLE", "MAXVALUE 2147483647"])
    def test_with_a_sequence_that_is_not_as_migrate_creates_it(self, parameter: str):
        text = refusal_after(f"ALTER TABLE outbox_event ALTER seq SET {parameter}")

        assert text == (
            "The numbers of outbox_event.seq have an increment, a maximum or a cycle. Run ALTER "
            "TABLE outbox_event ALTER seq SET INCREMENT 1 SET NO CYCLE SET NO MAXVALUE."
        )

        rows("ALTER TABLE outbox_event ALTER seq SET INCREMENT 1 SET NO CYCLE SET NO MAXVALUE")
        convert(using="default")

    @pytest.mark.parametrize("limit", ["statement_timeout", "lock_timeout"])
    def test_with_a_limit_that_would_end_the_build_of_an_index(self, limit: str):
        text = refusal_after(f"SET {limit} = '20s'")

        assert text == (
            f"The session has {limit} = 20000 ms, and building an index takes minutes. Run this "
            f'command with PGOPTIONS="-c {limit}=0", and without {limit} in the OPTIONS of '
            "DATABASES. Behind PgBouncer, connect to PostgreSQL directly for it."
        )

    @pytest.mark.parametrize("table", ["outbox_attempt", "outbox_settlement"])
    def test_without_the_ownership_of_a_table_with_a_foreign_key(self, table: str):
        others = {"outbox_event", "outbox_delivery", "outbox_attempt", "outbox_settlement"}
        owned = [f"ALTER TABLE {one} OWNER TO {{role}}" for one in others - {table}]
        may = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
        create = "GRANT CREATE ON SCHEMA public TO {role}"
        with acting_as_visitor(may, create, *owned) as role:
            found = [one.cause for one in refusals(using="default")]

        assert found == [f"The role {role} is not the owner of {table}."]

    def test_for_an_owner_that_may_create_no_table(self):
        owned = [
            f"ALTER TABLE {one} OWNER TO {{role}}_owner"
            for one in ("outbox_event", "outbox_delivery", "outbox_attempt", "outbox_settlement")
        ]
        with acting_as_visitor(
            "CREATE ROLE {role}_owner",
            "GRANT {role}_owner TO {role}",
            "GRANT CREATE ON SCHEMA public TO {role}",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
            *owned,
        ) as role:
            found = {one.cause for one in refusals(using="default")}

        assert found == {f"The role {role}_owner may create no table in the schema public."}

    def test_for_a_member_that_may_not_act_as_the_owner(self):
        if connection.pg_version < 160000:  # type: ignore[attr-defined]
            pytest.skip("each member may, before PostgreSQL 16")
        owned = [
            f"ALTER TABLE {one} OWNER TO {{role}}_owner"
            for one in ("outbox_event", "outbox_delivery", "outbox_attempt", "outbox_settlement")
        ]
        with acting_as_visitor(
            "CREATE ROLE {role}_owner",
            "GRANT {role}_owner TO {role} WITH SET FALSE",
            "GRANT CREATE ON SCHEMA public TO {role}, {role}_owner",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
            *owned,
        ) as role:
            found = [one.cause for one in refusals(using="default")]

        assert found == [
            f"The role {role} may not act as {role}_owner, the owner of {table}."
            for table in ("outbox_event", "outbox_delivery")
        ]

    def test_with_numbers_that_sessions_keep(self):
        """A session would insert into a partition of a day that is gone."""
        text = refusal_after("ALTER TABLE outbox_event ALTER seq SET CACHE 20")

        assert "The sequence of outbox_event.seq has CACHE 20, so a session may use an old" in text

    def test_with_a_column_that_has_no_identity(self):
        text = refusal_after("ALTER TABLE outbox_delivery ALTER id DROP IDENTITY")

        assert "The column id of outbox_delivery is no identity column" in text

    def test_with_numbers_of_days(self):
        text = refusal_after("SELECT setval('outbox_event_seq_seq', 100000000000)")

        assert "The sequence of outbox_event has reached the numbers of days." in text

    def test_without_the_rights_of_the_owner(self):
        may_read = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
        with acting_as_visitor(may_read) as role, pytest.raises(CannotPartition) as caught:
            convert(using="default")

        assert f"The role {role} is not the owner of outbox_event." in str(caught.value)

    @pytest.mark.parametrize(("connections", "is_refused"), [(35, True), (36, False)])
    def test_with_too_few_locks(
        self, monkeypatch: pytest.MonkeyPatch, connections: int, is_refused: bool
    ):
        monkeypatch.setattr(room, "_FACTS", f"SELECT 64, {connections}, 27")

        found = [one.step for one in refusals(using="default")]

        step = "Set max_locks_per_transaction to 566 or more, and restart PostgreSQL."
        assert found == ([step] if is_refused else [])

    def test_with_each_reason_at_once(self):
        text = refusal_after(
            "CREATE VIEW names AS SELECT name FROM outbox_event",
            "CREATE UNIQUE INDEX once ON outbox_delivery (note)",
        )

        assert len(text.splitlines()) == 2

    def test_until_the_reason_is_gone(self):
        refusal_after("CREATE VIEW names AS SELECT name FROM outbox_event")

        rows("DROP VIEW names")
        convert(using="default")

        assert is_partitioned(using="default")


class TestADatabaseWithoutPartitions:
    def test_is_named(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("django.db.backends.postgresql.base.DatabaseWrapper.vendor", "sqlite")

        with pytest.raises(CannotPartition, match="The database default has no partitions"):
            convert(using="default")
