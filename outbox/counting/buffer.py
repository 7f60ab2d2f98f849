"""What a process counts in its memory until a thread of its own adds it to the database.

Counting returns at once, and a write comes every ten seconds and only after work. A fork takes
neither counts nor thread along. What a killed process had not written is missing in the numbers
that are made of it, and nowhere else.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar
from weakref import WeakSet

from django.db import connections

from outbox.fork_safety import apart_from_forks

logger = logging.getLogger("outbox.book")

#: A write opens a connection of its own, and what is handled beside it is some milliseconds late:
#: with one every three seconds in each process, that was more than one event in a hundred.
_EVERY_SECONDS = 10.0
#: More places than this were never seen; a database that is away must not fill the memory.
_MOST_PLACES = 20_000

Place = TypeVar("Place", bound=Hashable)
Tallies = Mapping[Place, "Counter[str]"]

_books: WeakSet[Book[Hashable]] = WeakSet()
_has_threads = True


class Book(Generic[Place]):
    """Tallies by place, and the thread that stores them."""

    def __init__(self, store: Callable[[Tallies[Place]], None]) -> None:
        self._store = store
        self._forget()
        _books.add(self)  # type: ignore[arg-type]  # it is only asked to forget

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[Place, Counter[str]] = {}
        self._timer: threading.Timer | None = None

    def add(self, tallies: Tallies[Place]) -> None:
        """Count; returns at once."""
        with self._lock:
            for place, tally in tallies.items():
                if place in self._tallies or len(self._tallies) < _MOST_PLACES:
                    self._tallies.setdefault(place, Counter()).update(tally)
            if self._timer is None and _has_threads:
                self._timer = threading.Timer(_EVERY_SECONDS, self._write_in_thread)
                self._timer.daemon = True
                self._timer.start()

    def empty(self) -> None:
        """Forget what was counted and is not stored yet."""
        with self._lock:
            self._tallies = {}
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def write(self) -> None:
        """Store what was counted, now; what cannot be stored is kept for the next time."""
        with self._lock:
            tallies, self._tallies, self._timer = self._tallies, {}, None
        try:
            if tallies:
                self._store(tallies)
        except Exception:
            self.add(tallies)
            raise

    def _write_in_thread(self) -> None:
        try:
            with apart_from_forks():  # the relay counts in a process whose pool is forked
                self.write()
        except Exception as error:  # they are numbers; the work itself is recorded elsewhere
            logger.warning("what was counted could not be stored yet: %s", error)
        finally:
            connections.close_all()


def write_all() -> None:
    """Store what every book of this process holds, where it ends without Python's own end."""
    for book in list(_books):
        book._write_in_thread()


@contextmanager
def without_threads() -> Iterator[None]:
    """Within it nothing is stored unless asked for; what is left at the end is forgotten.

    For tests: a thread commits beside a test's transaction, and a later test finds its rows.
    """
    global _has_threads
    before, _has_threads = _has_threads, False
    try:
        yield
    finally:
        _has_threads = before
        for book in list(_books):
            book.empty()


def _forget_all() -> None:
    # The thread is not there in the child, and a lock may be held for ever.
    for book in list(_books):
        book._forget()


os.register_at_fork(after_in_child=_forget_all)
