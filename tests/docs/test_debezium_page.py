"""The SQL of the page about Debezium runs on a PostgreSQL, and its settings name columns."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest

from outbox.models import Event
from shop.postgres import EmbeddedPostgres, PostgresUnavailable
from tests.docs.pages import ROOT, Page

PAGE = Page("docs/how-to/let-debezium-read-the-table.md")

pytestmark = pytest.mark.once

Connection = psycopg.Connection[tuple[object, ...]]

#: Of an event, by name.
INSERT = """
INSERT INTO outbox_event (id, name, version, key, payload, emitted_at, correlation_id, emitted_by,
                          actor)
VALUES (gen_random_uuid(), %s, 1, '7', '{"weight": 3}', now(), gen_random_uuid(), '', '')
"""
#: Kinds of the messages of pgoutput: insert, update, delete.
ROWS = b"IUD"


def statements() -> list[str]:
    return [one.strip() for block in PAGE.blocks("sql") for one in block.split(";") if one.strip()]


def in_lists() -> list[str]:
    """The statements of the blocks within lists, which are indented."""
    blocks = re.findall(r"^   ```sql\n(.*?)^   ```$", PAGE.text, re.MULTILINE | re.DOTALL)
    return [one.strip() for block in blocks for one in block.split(";") if one.strip()]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a database on a server with logical decoding."""
    try:
        with EmbeddedPostgres(settings={"wal_level": "logical"}) as url:
            yield url
    except PostgresUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def connection(server: str) -> Iterator[Connection]:
    """A database with the project's tables, on a server with logical decoding."""
    run(server, "manage.py", "migrate", "--verbosity=0", "--skip-checks")
    with psycopg.connect(server, autocommit=True) as made:
        for statement in statements():
            made.execute(statement)
        yield made


def run(url: str, *command: str) -> None:
    """Run Python with a database."""
    environment = {**os.environ, "DATABASE_URL": url}
    subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True, timeout=250)


def inserted(connection: Connection, publication: str) -> list[bytes]:
    """Return the changes of rows that a consumer of the page's slot reads."""
    read = connection.execute(
        "SELECT data FROM pg_logical_slot_peek_binary_changes('outbox_events', NULL, NULL, "
        "'proto_version', '1', 'publication_names', %s)",
        [publication],
    )
    messages = [bytes(data) for (data,) in read if isinstance(data, bytes)]
    return [one for one in messages if one[:1] in {ROWS[i : i + 1] for i in range(len(ROWS))}]


class TestTheSql:
    def test_publishes_inserts_and_nothing_else(self, connection: Connection):
        connection.execute(INSERT, ["orders.OrderPlaced"])
        connection.execute(INSERT, ["payments.PaymentCaptured"])
        connection.execute("UPDATE outbox_event SET fanned_out_at = now()")
        connection.execute("DELETE FROM outbox_event")

        everything = inserted(connection, "outbox_events")
        orders = inserted(connection, "order_events")

        assert [one[:1] for one in everything] == [b"I", b"I"]
        assert b'{"weight": 3}' in everything[0]
        assert [one[:1] for one in orders] == [b"I"]
        assert b"orders.OrderPlaced" in orders[0]

    def test_creates_a_failover_slot(self, connection: Connection):
        found = connection.execute("SELECT slot_name, failover FROM pg_replication_slots")

        assert found.fetchall() == [("outbox_events", True)]

    def test_creates_a_role_that_reads_only_this_table(self, connection: Connection):
        query = (
            "SELECT table_name, privilege_type FROM information_schema.table_privileges "
            "WHERE grantee = 'debezium'"
        )

        assert connection.execute(query).fetchall() == [("outbox_event", "SELECT")]

    def test_limits_and_shows_the_log_that_is_kept(self, connection: Connection):
        limit, reload, shown = in_lists()

        connection.execute(limit)
        connection.execute(reload)

        (row,) = connection.execute(shown).fetchall()
        assert row[:2] == ("outbox_events", False)


class TestTheConfiguration:
    def test_names_columns_of_the_table(self):
        (text,) = PAGE.blocks("json")
        config = json.loads(text)["config"]
        router = {
            name.removeprefix("transforms.outbox."): value
            for name, value in config.items()
            if name.startswith("transforms.outbox.")
        }
        columns = {field.column for field in Event._meta.concrete_fields}
        more = router["table.fields.additional.placement"].split(",")

        named = {router[name] for name in router if name.startswith("table.field.event.")}
        named |= {router["route.by.field"], *(one.partition(":")[0] for one in more)}

        assert named == {"id", "key", "payload", "name", "version"}
        assert named <= columns

    def test_has_the_topic_of_a_sink_in_this_format(self):
        (text,) = PAGE.blocks("json")
        config = json.loads(text)["config"]
        pattern = config["transforms.outbox.route.topic.regex"].replace("(?<", "(?P<")
        template = config["transforms.outbox.route.topic.replacement"].replace("${app}", r"\g<app>")

        assert re.sub(pattern, template, "orders.OrderPlaced") == "outbox.event.orders"

    def test_names_the_publication_and_the_slot_of_the_sql(self):
        (text,) = PAGE.blocks("json")
        config = json.loads(text)["config"]
        sql = " ".join(statements())

        assert f"CREATE PUBLICATION {config['publication.name']} " in sql
        assert f"pg_create_logical_replication_slot('{config['slot.name']}'" in sql
