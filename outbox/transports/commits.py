"""Nudges for SQLite: a process sees that another one has committed.

SQLite sends no notifications. `PRAGMA data_version` changes when another connection commits, and
takes microseconds. So a thread reads it often, and looks for waiting events only after a change.
https://www.sqlite.org/pragma.html#pragma_data_version
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event

from django.db import connections

logger = logging.getLogger("outbox.nudge")

#: Seconds between two reads, and after a failure.
_EVERY_SECONDS, _PAUSE_SECONDS = 0.02, 1.0
_WAITING = "SELECT seq FROM outbox_event WHERE fanned_out_at IS NULL LIMIT 1"


class CommitWatcher:
    """Nudges a relay when another connection has committed an event, until stopped.

    Args:
        wake: nudges the relay.
        stopping: ends the loop.
        using: the outbox's database alias.
    """

    def __init__(self, wake: Callable[[], object], *, stopping: Event, using: str) -> None:
        self._wake = wake
        self._stopping = stopping
        self._using = using

    def run(self) -> None:
        """Watch until stopped."""
        version = 0
        try:
            while not self._stopping.wait(_EVERY_SECONDS):
                try:
                    before, version = version, self._version()
                    if version != before and self._has_waiting():
                        self._wake()
                except Exception as error:
                    logger.debug("commits are not seen: %s", error)
                    connections[self._using].close()
                    version = 0  # look again, since the change was not looked at
                    self._stopping.wait(_PAUSE_SECONDS)
        finally:
            connections.close_all()

    def _version(self) -> int:
        with connections[self._using].cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            return int(cursor.fetchone()[0])

    def _has_waiting(self) -> bool:
        with connections[self._using].cursor() as cursor:
            cursor.execute(_WAITING)
            return cursor.fetchone() is not None
