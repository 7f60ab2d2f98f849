"""Run functions at once, each in a thread with a database connection of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from django.db import connections


def run_together(functions: Sequence[Callable[[], object]]) -> None:
    """Start all functions at one barrier, wait for all, and raise what the first of them raised."""
    barrier = Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        try:
            connections["default"].ensure_connection()
            barrier.wait(timeout=30)
            function()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(functions)) as pool:
        for future in [pool.submit(run, function) for function in functions]:
            future.result(timeout=60)


def aside(function: Callable[[], object]) -> None:
    """Run a function on a connection of its own, as another process would, and wait for it."""
    run_together([function])
