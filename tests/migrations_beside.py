"""Run migrations of PostgreSQL beside writers, and find what would block the writers."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.migrations.recorder import MigrationRecorder

from tests.processes import eventually
from tests.threads import count_blocked, in_thread

#: Rows that a migration may read while it blocks a table.
FEW = 100
#: Rows that have to be written while a migration waits.
SOME = 5
#: What a writer waits for a lock before it fails, as its own setting.
LOCK_TIMEOUT = "15s"
#: Modes of a lock with which no row can be stored.
BLOCKING = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")


def rows(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a statement, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall()) if cursor.description else []


class Watch:
    """Inspects each statement of a migration after it has run, in the same transaction.

    PostgreSQL counts the rows that a transaction reads in scans, in builds of an index, and in
    rewrites of a table.

    Args:
        app: label of the app, with which the names of its tables begin.
    """

    def __init__(self, app: str) -> None:
        self.breaches: list[str] = []
        self._tables = f"{app}_%"
        self._inspects = False
        #: Rows that were read before the present transaction, and are not reported yet.
        self._before: int | None = None

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if self._inspects:
            return execute(sql, params, many, context)
        self._inspects = True
        try:
            if not connection.in_atomic_block:
                self._before = None
            elif self._before is None:
                self._before = self._read()
            found = execute(sql, params, many, context)
            self.breaches += self._in_transaction() if connection.in_atomic_block else alone(sql)
        finally:
            self._inspects = False
        return found

    def _in_transaction(self) -> Iterator[str]:
        if (read := self._read() - (self._before or 0)) > FEW:
            for table, mode in rows(_LOCKS, list(BLOCKING), self._tables):
                yield f"{read} rows are read by a transaction with a {mode} on {table}"

    def _read(self) -> int:
        return int(rows(_READ, self._tables)[0][0])


def alone(sql: str) -> Iterator[str]:
    """Yield the breaches of a statement that runs outside of a transaction."""
    if re.search(r"\bALTER TABLE\b|\bINDEX\b(?! CONCURRENTLY)|^\s*UPDATE\b(?! .django)", sql):
        yield f"outside of a transaction, it is not known what this blocks: {sql}"


_READ = "SELECT sum(seq_tup_read) FROM pg_stat_xact_user_tables WHERE relname LIKE %s"
_LOCKS = """
SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND l.granted AND l.mode = ANY(%s) AND c.relname LIKE %s
AND c.reltuples > 0"""
_FILES = "SELECT relname, relfilenode FROM pg_class WHERE relkind = 'r' AND relname LIKE %s"


class Writers:
    """Threads that write, each again and again.

    Attributes:
        errors: of the writes that failed.
    """

    def __init__(self, write: Callable[[], object]) -> None:
        self.errors: list[str] = []
        self._write = write
        self._done = 0
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(2)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def continue_meanwhile(self) -> None:
        """Wait until some more writes are completed, or one has failed."""
        wanted = self._done + SOME
        eventually(lambda: self._done >= wanted or self.errors, f"{wanted} writes")

    def _work(self) -> None:
        try:
            rows(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            while not self._stopping.wait(0.01):
                self._write_once()
        finally:
            connections.close_all()

    def _write_once(self) -> None:
        try:
            self._write()
        except Exception as error:
            self.errors.append(repr(error))
        else:
            self._done += 1


def run_beside(app: str, name: str, writers: Writers) -> list[str]:
    """Run a migration while rows are written and a long transaction has read all tables of its app.

    Returns:
        What blocks the writers.
    """
    watch, before = Watch(app), files(app)

    def watched() -> None:
        with connection.execute_wrapper(watch):
            call_command("migrate", app, name, verbosity=0)

    with transaction.atomic():
        rows(f"LOCK TABLE {', '.join(before)} IN ACCESS SHARE MODE")
        migrated = in_thread(watched)
        eventually(lambda: count_blocked() or is_applied(app, name), f"{name} waits or is applied")
        writers.continue_meanwhile()
        writers.continue_meanwhile()
    if error := migrated():
        raise AssertionError(name) from error  # type: ignore[misc]  # `object` is an exception
    writers.continue_meanwhile()
    after = files(app)
    rewritten = {f"{table} is rewritten" for table in before if before[table] != after.get(table)}
    failed = [f"a write failed: {error}" for error in writers.errors]
    writers.errors.clear()
    return [f"{name}: {one}" for one in sorted({*watch.breaches, *rewritten, *failed})]


def files(app: str) -> dict[str, int]:
    """Return the file of each table of an app, which a rewrite replaces."""
    return dict(rows(_FILES, f"{app}_%"))


def is_applied(app: str, name: str) -> bool:
    """Return whether a migration is recorded as applied."""
    return (app, name) in MigrationRecorder(connection).applied_migrations()
