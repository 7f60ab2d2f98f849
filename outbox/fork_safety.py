"""Keeps a thread's use of SQLite and the forking of a worker's pool apart.

SQLite notes in the process's memory which locks it holds. A child that is forked in the middle of
a write has that note for ever, while nobody there holds the lock: each of its own writes finds the
database locked. https://www.sqlite.org/howtocorrupt.html, section 2.6.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

_using = threading.RLock()


@contextmanager
def apart_from_forks(using: str | None = None) -> Iterator[None]:
    """Let no fork happen within the block, and close this thread's SQLite at its end.

    For short work in a thread of a process that forks. Nothing of SQLite is then open in a fork;
    connections to other databases stay as they are, and forks need not wait for them.

    Args:
        using: the only database alias that the block uses; None: it may use all.
    """
    files = [
        one for one in connections.all() if one.vendor == "sqlite" and using in (None, one.alias)
    ]
    if not files:
        yield
        return
    with _using:
        try:
            yield
        finally:
            for one in files:
                one.close()


def _renew() -> None:
    global _using
    _using = threading.RLock()


os.register_at_fork(
    before=lambda: _using.acquire(),
    after_in_parent=lambda: _using.release(),
    after_in_child=_renew,
)
