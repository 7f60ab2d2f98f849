"""`migrate` on a database from before the first release: one sentence, and no change."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

ROOT = Path(__file__).resolve().parents[2]
OLD = ("0001_initial", "0002_ordered_breakers_delayed", "0017_cause_index")


def recorded(file: Path, app: str) -> None:
    """Create an SQLite database in which `app` has recorded the old migrations."""
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(
            "CREATE TABLE django_migrations (id integer PRIMARY KEY AUTOINCREMENT, "
            "app varchar(255) NOT NULL, name varchar(255) NOT NULL, applied datetime NOT NULL)"
        )
        for name in OLD:
            database.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES (?, ?, '2026-11-25')",
                [app, name],
            )


def tables(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as database:
        return {row[0] for row in database.execute("SELECT name FROM sqlite_master")}


def migrate(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "migrate"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": f"sqlite:///{file}"},
        capture_output=True,
        text=True,
        check=False,
    )


class TestTablesFromBeforeTheFirstRelease:
    def test_are_refused_in_one_sentence_and_stay_as_they_are(self, tmp_path: Path):
        file = tmp_path / "old.sqlite3"
        recorded(file, "outbox")
        before = tables(file)

        done = migrate(file)

        assert done.returncode == 1
        assert done.stderr == (
            "CommandError: The database default was migrated before the first release of the "
            "outbox (django_migrations lists outbox.0002_ordered_breakers_delayed to "
            "outbox.0017_cause_index), and this release cannot update its tables: delete the file "
            f"{file}, then migrate again.\n"
        )
        assert tables(file) == before

    @pytest.mark.postgresql
    @pytest.mark.django_db
    def test_are_refused_on_postgresql_with_the_name_of_the_database(self):
        for name in OLD:
            MigrationRecorder(connection).record_applied("outbox", name)
        database = connection.settings_dict

        with pytest.raises(CommandError) as refused:
            call_command("migrate", verbosity=0)

        assert str(refused.value).endswith(
            f"drop and create the database {database['NAME']} at "
            f"{database['HOST']}:{database['PORT']}, then migrate again."
        )


class TestADatabaseOfOtherApps:
    def test_is_migrated(self, tmp_path: Path):
        file = tmp_path / "crm.sqlite3"
        recorded(file, "crm")

        done = migrate(file)

        assert done.returncode == 0, done.stderr
        assert "outbox_delivery" in tables(file)


class TestAPresentDatabase:
    @pytest.mark.django_db
    def test_is_migrated_again_without_a_change(self):
        before = MigrationRecorder(connection).applied_migrations().keys()

        call_command("migrate", verbosity=0)

        assert MigrationRecorder(connection).applied_migrations().keys() == before
