"""The demo as a program: its environment, its database and its clean-up."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from shop.demo.database import DatabaseUnavailable, own_database
from shop.demo.program import NOT_OURS, prepare
from tests.databases import postgresql_url
from tests.processes import NOTHING_GIVEN, Running, descendants, eventually, is_alive

ROOT = Path(__file__).parents[2]
CEILING = 180.0  # seconds: it is only reached by a failure


def prepared(
    folder: Path, given: Mapping[str, str] | None = None, *, is_breaking: bool = False
) -> dict[str, str]:
    environment = dict(given or {})
    prepare(environment, folder=folder, database="sqlite:///x", is_breaking=is_breaking)
    return environment


class TestTheEnvironment:
    def test_drops_the_given_servers(self, tmp_path: Path):
        environment = prepared(tmp_path, dict.fromkeys(NOT_OURS, "real"))

        assert "real" not in environment.values()
        assert environment["DATABASE_URL"] == "sqlite:///x"

    def test_keeps_other_variables(self, tmp_path: Path):
        environment = prepared(tmp_path, {"SHOP_CURRENCY": "EUR"})

        assert environment["SHOP_CURRENCY"] == "EUR"

    def test_shortens_leases_if_workers_are_killed(self, tmp_path: Path):
        usual, breaking = (
            json.loads(prepared(tmp_path, is_breaking=is_breaking)["OUTBOX"])["LEASE_SECONDS"]
            for is_breaking in (False, True)
        )

        assert breaking < usual


class TestItsDatabase:
    def test_is_a_file_in_its_folder(self, tmp_path: Path):
        with own_database({}, tmp_path, keeps=False) as url:
            assert url == f"sqlite:///{tmp_path / 'db.sqlite3'}"

    def test_is_never_a_given_file(self, tmp_path: Path):
        with own_database({"DATABASE_URL": "sqlite:///shop.db"}, tmp_path, keeps=False) as url:
            assert "shop.db" not in url

    @pytest.mark.postgresql
    def test_is_a_new_one_on_the_given_server_and_is_dropped(self, tmp_path: Path):
        given = {"DATABASE_URL": postgresql_url()}

        with own_database(given, tmp_path, keeps=False) as url, psycopg.connect(url) as connection:
            name = connection.info.dbname
        assert name.startswith("shop_demo_")
        assert name not in databases()

    @pytest.mark.postgresql
    def test_that_is_kept_is_named_before_the_commands_that_need_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        """Failed: the printed commands used, and changed, the database of DATABASE_URL."""
        with own_database({"DATABASE_URL": postgresql_url()}, tmp_path, keeps=True) as url:
            name = urlsplit(url).path.removeprefix("/")

        try:
            said = " ".join(capsys.readouterr().err.split())
            assert name in databases()
            assert f"export DATABASE_URL with {name} as the name of the database" in said
        finally:
            drop(name)

    @pytest.mark.postgresql
    def test_that_cannot_be_dropped_is_named(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        """Failed: a traceback, in words about the creation."""
        with own_database({"DATABASE_URL": postgresql_url()}, tmp_path, keeps=False) as url:
            name = urlsplit(url).path.removeprefix("/")
            drop(name)  # so that the server refuses to do it again

        said = capsys.readouterr().err
        assert said.startswith(f"Cannot drop the database {name} of the demo: ")
        assert said.count("\n") == 1

    @pytest.mark.postgresql
    def test_reports_in_one_line_that_it_cannot_be_created(self, tmp_path: Path):
        given = {"DATABASE_URL": "postgres://nobody:wrong@127.0.0.1:1/shop"}

        with (
            pytest.raises(DatabaseUnavailable, match="Cannot create a database for the demo"),
            own_database(given, tmp_path, keeps=False),
        ):
            pass


@pytest.mark.once
@pytest.mark.processes
@pytest.mark.timeout(400)
class TestAStoppedDemo:
    @pytest.mark.parametrize(
        ("number", "flags", "line"),
        [
            (signal.SIGINT, [], "Six orders with a slow"),
            (signal.SIGTERM, ["--world"], "BREAK: killed the carrier"),
        ],
    )
    def test_leaves_no_process_and_no_file(
        self, tmp_path: Path, number: signal.Signals, flags: list[str], line: str
    ):
        if "--world" in flags:
            pytest.importorskip("noida_db", reason="noida-db is not installed.")
        demo = Running(
            [sys.executable, "manage.py", "demo", *flags],
            environment={**NOTHING_GIVEN, "TMPDIR": str(tmp_path)},
            folder=ROOT,
        )
        try:
            demo.says(line, within=CEILING)
            everything = descendants(demo.pid)
            demo.send(number)

            assert demo.ends(within=CEILING) == 1
        finally:
            demo.end_for_sure()
        assert "The demo was stopped before it was complete." in demo.lines
        assert "Traceback" not in demo.output
        assert list(tmp_path.glob("shop-demo-*")) == []
        eventually(lambda: not any(map(is_alive, everything)), "all programs gone")


def drop(name: str) -> None:
    with psycopg.connect(postgresql_url(), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}"'.encode())


def databases() -> set[str]:
    with psycopg.connect(postgresql_url()) as connection:
        rows = connection.execute("SELECT datname FROM pg_database").fetchall()
    return {name for (name,) in rows}
