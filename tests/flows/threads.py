"""Run functions at once, each in a thread with a database connection of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BoundedSemaphore

from django.db import connections

Functions = Sequence[Callable[[], object]]


def run_together(functions: Functions) -> None:
    """Start all functions at one barrier, wait for all, and raise what the first of them raised."""
    barrier = Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        try:
            connections["default"].ensure_connection()
            barrier.wait(timeout=30)
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
        barrier.wait(timeout=30)
        with pooler:
            try:
                function()
            finally:
                connections.close_all()

    _run_each_in_a_thread(run, functions)


def _run_each_in_a_thread(
    run: Callable[[Callable[[], object]], None], functions: Functions
) -> None:
    with ThreadPoolExecutor(len(functions)) as pool:
        for future in [pool.submit(run, function) for function in functions]:
            future.result(timeout=60)


def aside(function: Callable[[], object]) -> None:
    """Run a function on a connection of its own, as another process would, and wait for it."""
    run_together([function])
