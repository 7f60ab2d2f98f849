"""Prevent forks of a worker's pool while a thread uses SQLite.

SQLite records the locks that it holds in the process's memory. A child that is forked during a
write copies this record and never clears it. So each write of the child fails with a locked
database. https://www.sqlite.org/howtocorrupt.html, section 2.6.
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
    """Prevent forks within the block, and close this thread's SQLite connections at its end.

    For short work in a thread of a process that forks. No SQLite file is then open at a fork.
    Connections to other databases stay open, and forks do not wait for them.

    Args:
        using: the only database alias that the block uses. None: it may use all.
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
