"""`manage.py outbox` reports a database error in one sentence, without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import CommandError, OutputWrapper
from django.db import OperationalError, ProgrammingError

from outbox.management.cli import SUBCOMMANDS, errors
from tests.closed_port import port_of_nobody
from tests.outbox.command import outbox_command, refused

ROOT = Path(__file__).resolve().parents[2]


def ended(*arguments: str, database: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a separate process, on another database."""
    return subprocess.run(
        [sys.executable, "manage.py", "outbox", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database},
        capture_output=True,
        text=True,
        check=False,
    )


class TestADatabase:
    @pytest.mark.parametrize("arguments", [["status"], ["retry", "--dead", "--since", "2h"]])
    def test_that_is_unreachable_is_named_with_the_next_step(self, arguments: list[str]):
        """Failed: a traceback. An age was subtracted from its clock while options were parsed."""
        done = ended(*arguments, database=f"postgres://nobody@127.0.0.1:{port_of_nobody()}/none")

        assert done.returncode == 1
        assert done.stderr.startswith("CommandError: The database default cannot be reached")
        assert "DATABASES['default']" in done.stderr
        assert "Traceback" not in done.stderr

    def test_without_tables_is_reported_with_the_command_migrate(self, tmp_path: Path):
        """Failed: a traceback that ended with "no such table"."""
        done = ended("status", database=f"sqlite:///{tmp_path}/empty.sqlite3")

        assert done.returncode == 1
        assert "lacks migrations of the outbox, from 0001_initial on: no such table" in done.stderr
        assert "`manage.py migrate --database default`" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.django_db(transaction=True)
    def test_that_refuses_a_statement_is_reported_with_the_command_doctor(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        def refuse(*_arguments: Any) -> None:
            raise OperationalError("database is locked")

        monkeypatch.setattr(SUBCOMMANDS["status"], "run", refuse)

        said = refused("status")

        assert said.startswith(
            "The database default is reachable, but refused a statement: database"
        )
        assert "`manage.py outbox doctor`" in said

    @pytest.mark.django_db(transaction=True)
    def test_that_gets_invalid_sql_keeps_the_traceback(self, monkeypatch: pytest.MonkeyPatch):
        def ask_nonsense(*_arguments: Any) -> None:
            raise ProgrammingError("syntax error")

        monkeypatch.setattr(SUBCOMMANDS["status"], "run", ask_nonsense)

        with pytest.raises(ProgrammingError):
            outbox_command("status")


class TestOutput:
    @pytest.mark.parametrize("buffered", ["", "1"], ids=["buffered", "unbuffered"])
    def test_that_nobody_reads_any_more_ends_the_command_quietly(
        self, buffered: str, tmp_path: Path
    ):
        """Failed: a traceback, or "Exception ignored", after `| head`."""
        database = f"sqlite:///{tmp_path}/shop.sqlite3"
        env = {**os.environ, "DATABASE_URL": database, "PYTHONUNBUFFERED": buffered}
        migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(migrate, cwd=ROOT, env=env, check=True)
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as output:
            done = subprocess.run(
                [sys.executable, "manage.py", "outbox", "status"],
                cwd=ROOT,
                env=env,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )

        assert done.returncode == 141
        assert done.stderr == ""

    @pytest.mark.parametrize("error", [CommandError("no such handler"), KeyboardInterrupt()])
    def test_that_nobody_reads_does_not_hide_an_error(self, error: BaseException):
        """Failed: after `| head`, the exit code 141 replaced the error, Ctrl-C too."""
        reader, writer = os.pipe()
        os.close(reader)
        output = OutputWrapper(os.fdopen(writer, "w"))

        with pytest.raises(type(error)), errors.ending_unread(output) as write:
            write("a line that is buffered")
            raise error

        output.close()  # without an error: the line was discarded


class TestAnAge:
    """Seen to fail: an OverflowError with its traceback."""

    @pytest.mark.parametrize("age", ["36601d", "878401h", "999999d"])
    @pytest.mark.parametrize("option", ["retry --dead --since", "prune --older-than"])
    def test_above_a_hundred_years_is_refused(self, option: str, age: str):
        said = refused(*option.split(), age)

        assert f"{age!r} is more than a hundred years" in said

    @pytest.mark.django_db
    @pytest.mark.parametrize("age", ["36600d", "999999m"])
    def test_of_a_hundred_years_is_accepted(self, age: str):
        assert "0 events would be deleted" in outbox_command(
            "prune", "--older-than", age, "--dry-run"
        )
