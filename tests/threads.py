"""Run functions concurrently, each in a thread with its own database connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BoundedSemaphore

from django.db import connection, connections

#: Seconds. Reaching it is a failure, also on a busy machine.
PATIENCE = 60.0

Functions = Sequence[Callable[[], object]]


def run_together(functions: Functions) -> None:
    """Start all functions at one barrier, wait for all, and raise what the first of them raised."""
    barrier = Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        try:
            _be_patient_with_locks_but_not_for_ever()
            barrier.wait(timeout=PATIENCE)
            function()
        finally:
            connections.close_all()

    _run_each_in_a_thread(run, functions)


def crowd(functions: Functions, *, at_most: int) -> None:
    """As `run_together`, where the database has fewer connections than there are functions.

    They all stand at the barrier, and then share `at_most` connections, as behind a pooler.
    """
    barrier, pooler = Barrier(len(functions)), BoundedSemaphore(at_most)

    def run(function: Callable[[], object]) -> None:
        barrier.wait(timeout=PATIENCE)
        with pooler:
            try:
                _let_sqlite_wait(4 * PATIENCE)
                function()
            finally:
                connections.close_all()

    _run_each_in_a_thread(run, functions)


def _run_each_in_a_thread(
    run: Callable[[Callable[[], object]], None], functions: Functions
) -> None:
    with ThreadPoolExecutor(len(functions)) as pool:
        for future in [pool.submit(run, function) for function in functions]:
            future.result(timeout=4 * PATIENCE)


def aside(function: Callable[[], object]) -> None:
    """Run a function on a connection of its own, as another process would, and wait for it."""
    run_together([function])


def in_thread(action: Callable[[], object], *, name: str = "") -> Callable[[], object]:
    """Start an action beside this one; return what waits for its result, or its error."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(action())
        except Exception as error:
            results.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, name=name or None)
    thread.start()

    def result() -> object:
        thread.join()
        return results[0]

    return result


def wait_until_blocked(number: int) -> None:
    """Wait until so many connections to this test's database wait for a lock (PostgreSQL)."""
    deadline = time.monotonic() + PATIENCE
    while (blocked := count_blocked()) < number:
        assert time.monotonic() < deadline, f"{blocked} instead of {number} wait for a lock."
        time.sleep(0.01)


def count_blocked() -> int:
    """Return how many connections to this test's database wait for a lock (PostgreSQL)."""
    # By database, since other tests may run on this server at the same time.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees one for good
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock' "
            "AND backend_type = 'client backend'"
        )
        [count] = cursor.fetchone()
    return int(count)


def _be_patient_with_locks_but_not_for_ever() -> None:
    """So that a test whose threads block each other fails, and does not hang."""
    connection.ensure_connection()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = '{PATIENCE:.0f}s'")


def _let_sqlite_wait(seconds: float) -> None:
    """Wait longer for the only write lock than the settings: it is given to any of the waiting."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {1000 * seconds:.0f}")
