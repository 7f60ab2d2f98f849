"""Counts of a process in memory, which a thread adds to their database.

Counting returns at once. The thread writes every ten seconds, if anything was counted. A forked
child starts without counts and thread. Unwritten counts of a killed process are lost; only the
statistics depend on them.
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

from outbox import databases
from outbox.fork_safety import apart_from_forks

logger = logging.getLogger("outbox.counting")

#: A write opens its own connection and delays concurrent deliveries by some milliseconds. With a
#: write every three seconds in each process, more than one event in a hundred was delayed.
_EVERY_SECONDS = 10.0
#: Limits the memory while the database is unreachable; normal operation needs fewer places.
_MOST_PLACES = 20_000

Place = TypeVar("Place", bound=Hashable)
Tallies = Mapping[Place, "Counter[str]"]

_buffers: WeakSet[Buffer[Hashable]] = WeakSet()
_has_threads = True


class Buffer(Generic[Place]):
    """Counts by place, and the thread that stores them."""

    def __init__(self, store: Callable[[Tallies[Place]], None]) -> None:
        self._store = store
        self._forget()
        _buffers.add(self)  # type: ignore[arg-type]  # nothing is added through it

    def _forget(self) -> None:
        self._lock = threading.Lock()
        #: By the database of the running code: "" without OUTBOX["DATABASES"].
        self._tallies: dict[str, dict[Place, Counter[str]]] = {}
        #: The thread of each database, until its write has ended. One that waits for a silent
        #: database delays no other one, and gets no second thread beside it.
        self._timers: dict[str, threading.Timer] = {}

    def add(self, tallies: Tallies[Place]) -> None:
        """Add counts of the database of the running code. Return at once."""
        self._add_to(databases.alias() if databases.listed() else "", tallies)

    def _add_to(self, using: str, tallies: Tallies[Place]) -> None:
        with self._lock:
            mine = self._tallies.setdefault(using, {})
            for place, tally in tallies.items():
                if place in mine or len(mine) < _MOST_PLACES:
                    mine.setdefault(place, Counter()).update(tally)
            if using not in self._timers and _has_threads:
                self._start_timer(using)

    def _start_timer(self, using: str) -> None:
        timer = threading.Timer(_EVERY_SECONDS, self._write_in_thread, [using])
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError as error:  # too many threads: the next count tries again
            logger.debug("No thread stores the counts: %s", error)
        else:
            self._timers[using] = timer

    def empty(self) -> None:
        """Discard the counts that are not stored yet."""
        with self._lock:
            self._tallies = {}
            for timer in self._timers.values():
                timer.cancel()
            self._timers = {}

    def write(self, only: str | None = None) -> None:
        """Store the counts now. If that fails for a database, keep its own for the next write.

        Args:
            only: the database whose counts are stored. None: all.
        """
        with self._lock:
            chosen = list(self._tallies) if only is None else [only]
        errors = []
        for using in chosen:
            try:
                self._write_of(using)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _write_of(self, using: str) -> None:
        with self._lock:  # the counts of the others stay: this write may wait for its database
            tallies = self._tallies.pop(using, {})
        if not tallies:
            return
        try:
            with databases.working_on(using or None):
                self._store(tallies)
        except Exception:
            self._add_to(using, tallies)
            raise

    def _write_in_thread(self, using: str) -> None:
        self._write_safely(using)
        with self._lock:
            if self._timers.get(using) is threading.current_thread():
                del self._timers[using]
                if self._tallies.get(using) and _has_threads:  # counted during the write
                    self._start_timer(using)

    def _write_safely(self, only: str | None) -> None:
        try:
            with apart_from_forks(only or None):  # the relay counts in a process that forks
                self.write(only)
        except Exception as error:  # only statistics are late
            text = "Counts for charts and metrics are not stored yet; next attempt in %d s: %s"
            logger.warning(text, _EVERY_SECONDS, error)
        finally:
            connections.close_all()


def write_all() -> None:
    """Store all counts of this process, for an exit that skips Python's own exit handlers."""
    for buffer in list(_buffers):
        buffer._write_safely(None)


@contextmanager
def without_threads() -> Iterator[None]:
    """Store nothing in the block except by `write`; discard the remaining counts at its end.

    For tests: a thread would commit outside of a test's transaction, and a later test would find
    its rows.
    """
    global _has_threads
    before, _has_threads = _has_threads, False
    try:
        yield
    finally:
        _has_threads = before
        for buffer in list(_buffers):
            buffer.empty()


def _forget_all() -> None:
    # The child has no thread, and its copy of the lock may be held for ever.
    for buffer in list(_buffers):
        buffer._forget()


os.register_at_fork(after_in_child=_forget_all)
