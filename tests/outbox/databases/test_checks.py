from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db import connections, router
from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)


def found(number: str, **options: Any) -> list[CheckMessage]:
    return [one for one in run_checks(**options) if one.id == f"outbox.{number}"]


def list_databases(settings: Settings, *aliases: str) -> None:
    settings.OUTBOX = {**settings.OUTBOX, "DATABASES": list(aliases)}


class Pinned:
    def db_for_read(self, model: type, **_hints: Any) -> str | None:
        return "default" if model._meta.app_label == "outbox" else None  # type: ignore[attr-defined]

    db_for_write = db_for_read


class Nowhere:
    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool | None:
        return False if db == "shard_1" else None


class TestTheListOfDatabases:
    def test_is_accepted(self, shard: str):
        assert not found("E093")
        assert not found("W093")
        assert not found("E012")

    def test_is_refused_if_the_routers_send_its_rows_elsewhere(
        self, shard: str, monkeypatch: pytest.MonkeyPatch
    ):
        """Relations of a row would be those of a row with the same id in the other database."""
        monkeypatch.setattr(router, "routers", [Pinned()])

        [error] = found("E096")

        assert "names shard_1, and DATABASE_ROUTERS send rows that were read" in error.msg

    def test_begins_with_another_database_than_the_routers_choose(
        self, shard: str, settings: Settings
    ):
        list_databases(settings, shard, "default")

        [warning] = found("W093")

        assert (
            "begins with shard_1, and without the setting the outbox is in default" in warning.msg
        )

    def test_has_an_unknown_database(self, shard: str, settings: Settings):
        list_databases(settings, "default", "shard_l")

        [error] = found("E093")

        assert error.msg == 'OUTBOX["DATABASES"] names shard_l, which DATABASES does not have.'
        assert "shard_1" in str(error.hint)

    def test_has_a_database_twice(self, shard: str, settings: Settings):
        list_databases(settings, "default", shard, shard)

        [error] = found("E093")

        assert "names shard_1 2 times" in error.msg

    def test_has_a_replica(self, shard: str, monkeypatch: pytest.MonkeyPatch):
        test = {**connections[shard].settings_dict["TEST"], "MIRROR": "default"}
        monkeypatch.setitem(connections[shard].settings_dict, "TEST", test)

        [error] = found("E093")

        assert "names shard_1, which is a replica of default" in error.msg

    def test_has_a_database_that_the_routers_forbid(
        self, shard: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(router, "routers", [Nowhere()])

        [error] = found("E093")

        assert "DATABASE_ROUTERS allow no table" in error.msg

    def test_is_no_list(self, shard: str, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": "default"}

        [error] = found("E012")

        assert "Set it to a list of aliases" in str(error.hint)


class TestADatabaseWithoutTables:
    def test_is_reported_before_a_deploy(self, shard: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(connections[shard].introspection, "table_names", list)

        [error] = found("E094", databases=[shard], include_deployment_checks=True)

        assert error.hint == "Run `manage.py migrate --database shard_1`."

    def test_is_not_read_unless_it_is_named(self, shard: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(connections[shard].introspection, "table_names", list)

        assert not found("E094", include_deployment_checks=True)
