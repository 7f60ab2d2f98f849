"""Remove past days: `python -m benchmarks.probes.removing`.

Prints the seconds of the whole; of the transaction that empties the day, with its tries; from its
locks to the end of its commit, in which PostgreSQL also unlinks the files, after it has released
the locks; and the longest time that a reader of the day waited meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import django

from benchmarks.probes import print_json

_READ = "SELECT 1 FROM outbox_event_before LIMIT 1"
_READ_SECONDS = 0.005


class Times:
    """When the transaction that empties the day has begun, has its locks, and is committed."""

    def __init__(self) -> None:
        self.began = self.locked = self.committed = self.longest_read = 0.0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take the times within the block."""
        from outbox.partitions import emptying
        from outbox.retention import one_day

        empty, lock_table = one_day.empty, emptying.lock_table

        def timed_empty(*args: Any, **options: Any) -> None:
            self.began = time.monotonic()
            with self._reader():
                empty(*args, **options)
                self.committed = time.monotonic()

        def timed_lock(*args: Any, **options: Any) -> None:
            lock_table(*args, **options)
            self.locked = time.monotonic()

        one_day.empty, emptying.lock_table = timed_empty, timed_lock
        try:
            yield
        finally:
            one_day.empty, emptying.lock_table = empty, lock_table

    @contextmanager
    def _reader(self) -> Iterator[None]:
        has_ended = threading.Event()
        thread = threading.Thread(target=self._read_until, args=[has_ended])
        thread.start()
        try:
            yield
        finally:
            has_ended.set()
            thread.join()

    def _read_until(self, has_ended: threading.Event) -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            while not has_ended.wait(_READ_SECONDS):
                began = time.monotonic()
                cursor.execute(_READ)
                self.longest_read = max(self.longest_read, time.monotonic() - began)
        connection.close()


def main() -> None:
    """Prune all that is older than a month."""
    django.setup()
    from outbox import operations

    times = Times()
    began = time.monotonic()
    with times.taken():
        removed = operations.prune(older_than=timedelta(days=30))
    if not times.committed:  # all was pruned row by row, so there is nothing to measure
        raise RuntimeError("No day was emptied.")
    print_json(
        {
            "removed": removed,
            "seconds": time.monotonic() - began,
            "emptying": times.committed - times.began,
            "locked": times.committed - times.locked,
            "reader": times.longest_read,
        }
    )


if __name__ == "__main__":
    main()
