"""The statements that set state of a database session, and the scope of that state."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from outbox.worker.session_sql import Scope, scope_of


def scope(statement: str, *params: Any) -> str:
    return scope_of(statement, params, connection).name


class TestAStatement:
    @pytest.mark.parametrize(
        "statement",
        [
            "SET ROLE reader",
            "set session characteristics as transaction read only",
            "RESET ALL",
            "LISTEN news",
            "CREATE OR REPLACE TEMP VIEW v AS SELECT 1",
            "CREATE TEMPORARY TABLE t (id int)",
            "SELECT 1 INTO TEMP t",
            "PREPARE q AS SELECT 1",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "SELECT pg_try_advisory_lock(7)",
            "SELECT set_config('a', %s, false)",
            "SELECT set_config('a', 'b', false), set_config('c', 'd', true)",
            "PRAGMA foreign_keys = off",
            "PRAGMA main.foreign_keys=off",
            "ATTACH DATABASE 'x' AS y",
            "/* who: me */ SET a = 1",
            "-- who\n  SET a = 1",
            "SELECT 'it''s; -- no comment'; SET a = 1",
            "SELECT E'it\\'s'; SET a = 1",
            'SELECT 1 AS "--"; SET a = 1',
            "SET LOCAL a = 1; SET b = 2",
            "DO $body$ BEGIN PERFORM 1; END $body$",
        ],
    )
    def test_sets_state_of_the_session(self, statement: str):
        assert scope(statement) == "SESSION"

    @pytest.mark.parametrize(
        "statement",
        [
            "SET LOCAL a = 1",
            "SET TRANSACTION READ ONLY",
            "SELECT set_config('a', 'b', true)",
            "SELECT set_config('a', 'b', true), set_config('c', 'd', TRUE) AS c",
            "SELECT 1; SET LOCAL a = 1;",
        ],
    )
    def test_sets_state_of_its_transaction(self, statement: str):
        assert scope(statement) == "TRANSACTION"

    @pytest.mark.parametrize(("value", "expected"), [(True, "TRANSACTION"), (False, "SESSION")])
    def test_sets_state_according_to_its_parameter(self, value: bool, expected: str):
        assert scope("SELECT set_config(%s, %s, %s)", "a", "b", value) == expected

    @pytest.mark.parametrize(
        "statement",
        [
            "",
            "UPDATE t SET a = 'x; SET b = 2' WHERE id = 1;",
            "SELECT $$; SET a = 1; $$",
            "SELECT 1 -- ; SET a = 1",
            "SELECT /* ; SET a = 1 */ 1",
            "INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING",
            "SET CONSTRAINTS ALL DEFERRED",
            "PREPARE TRANSACTION 'x'",
            "SELECT pg_advisory_xact_lock(7)",
            "INSERT INTO t SELECT a FROM temp_u",
        ],
    )
    def test_sets_no_state(self, statement: str):
        assert scope(statement) == "NONE"


class Array:
    """A parameter whose `==` has no truth value, as numpy's arrays."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("The truth value of an array is ambiguous.")

    __hash__ = None  # type: ignore[assignment]  # it is not hashable


class TestAParameter:
    def test_is_not_compared(self):
        statement = "UPDATE documents SET embedding = %s"

        assert scope_of(statement, [Array()], connection) is Scope.NONE


class TestAScope:
    def test_that_lasts_longer_is_greater(self):
        assert Scope.NONE < Scope.TRANSACTION < Scope.SESSION


class TestTheSchemaOfDjangoTenants:
    STATEMENT = "SET search_path = 'acme','public'"

    def test_is_set_by_the_backend_for_each_cursor(self, monkeypatch: pytest.MonkeyPatch):
        """`tests/outbox/tenants/test_schemas.py` runs the real backend."""
        monkeypatch.setattr(connection, "_setting_search_path", True, raising=False)

        assert scope_of(self.STATEMENT, None, connection) is Scope.NONE

    def test_is_state_of_the_session_if_a_handler_sets_it(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(connection, "_setting_search_path", False, raising=False)

        assert scope_of(self.STATEMENT, None, connection) is Scope.SESSION

    def test_is_state_of_the_session_with_another_backend(self):
        assert scope_of(self.STATEMENT, None, connection) is Scope.SESSION
