"""Locks of whole tables that are taken in short tries."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction

from outbox import operations, subscribe
from outbox.deliveries import locks
from outbox.testing import Outbox
from tests.outbox.sessions import in_another_transaction, rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

TABLE = "outbox_delivery"


class TestALockWithoutAMaximumOfTries:
    def test_waits_longer_in_every_tenth_try(self, monkeypatch: pytest.MonkeyPatch):
        """So PostgreSQL ends an autovacuum. It does so for a lock that waits for a second."""
        monkeypatch.setattr(locks, "_TRY_SECONDS", 0.01)
        timeouts: list[int] = []
        is_held, may_end = threading.Event(), threading.Event()

        def hold() -> None:
            own = connections["default"].copy()
            own.set_autocommit(False)
            with own.cursor() as cursor:
                cursor.execute(f"LOCK TABLE {TABLE} IN SHARE UPDATE EXCLUSIVE MODE")
            is_held.set()
            may_end.wait(60)
            own.close()

        def watch(execute: Any, sql: str, *rest: Any) -> Any:
            if sql.startswith("SET LOCAL lock_timeout = "):
                timeouts.append(int(sql.rpartition(" ")[2]))
                if len(timeouts) > 10:
                    may_end.set()
            return execute(sql, *rest)

        holder = threading.Thread(target=hold)
        holder.start()
        assert is_held.wait(60)
        try:
            with connection.execute_wrapper(watch):
                locks.lock_table(TABLE, mode="ACCESS EXCLUSIVE", using="default")
        finally:
            may_end.set()
            holder.join()

        assert timeouts[:10] == [10] * 9 + [1500]


class TestALockOfSeveralTables:
    def test_waits_for_all_of_them_together_as_long_as_for_one(self):
        """Others that hold one and wait for another look for a deadlock after a second."""
        timeouts: list[int] = []

        def watch(execute: Any, sql: str, *rest: Any) -> Any:
            if sql.startswith("SET LOCAL lock_timeout = "):
                timeouts.append(int(sql.rpartition(" ")[2]))
                execute("SELECT pg_sleep(0.02)", (), *rest[1:])
            return execute(sql, *rest)

        with connection.execute_wrapper(watch):
            locks.lock_table(TABLE, "outbox_event", mode="SHARE", using="default")

        assert timeouts[0] == 300
        assert timeouts[1] <= 280

    def test_is_taken_as_a_whole_or_not_at_all(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(locks, "_TRY_SECONDS", 0.01)
        with (
            in_another_transaction("LOCK TABLE outbox_event IN SHARE MODE"),
            transaction.atomic(),
        ):
            with pytest.raises(OperationalError):
                locks.lock_table(TABLE, "outbox_event", mode="EXCLUSIVE", using="default", tries=2)

            held = rows(
                "SELECT mode FROM pg_locks WHERE relation = %s::regclass "
                "AND pid = pg_backend_pid()",
                TABLE,
            )
        assert held == []


def wait_for_passes() -> None:
    locks.wait_for_passes(using="default")


def end_handler() -> None:
    operations.end("tests.weigh", by="ann", reason="a test")


class TestTheLockOfSubscriptions:
    @pytest.mark.parametrize("use", [wait_for_passes, end_handler])
    def test_bounds_how_long_a_lost_host_keeps_it(
        self, own_registry: None, use: Callable[[], None]
    ):
        """Failed: all relays waited until PostgreSQL noticed the loss, two hours by default."""
        found: list[list[str]] = []

        def watch(execute: Any, sql: str, *rest: Any) -> Any:
            if sql.startswith("LOCK TABLE"):
                settings = ("idle_in_transaction_session_timeout", "tcp_user_timeout")
                found.append([rows(f"SHOW {one}")[0][0] for one in settings])
            return execute(sql, *rest)

        @subscribe("tests.Weighed")
        def weigh() -> None: ...

        Outbox()
        with connection.execute_wrapper(watch):
            use()

        assert found == [["5s", "5000"]]
