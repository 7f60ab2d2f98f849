"""Prevent forks of a worker's pool while a thread uses SQLite.

SQLite records the locks that it holds in the process's memory. A child that is forked during a
write copies this record and never clears it. So each write of the child fails with a locked
database. https://www.sqlite.org/howtocorrupt.html, section 2.6.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

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


@contextmanager
def once_used(around: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
    """Enter `around` before the first statement of this thread within the block, until its end.

    For code of the project that takes long and may or may not use a database.
    """
    with ExitStack() as stack:
        entered: list[bool] = []

        def enter(
            execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
        ) -> Any:
            if not entered:
                entered.append(True)
                stack.enter_context(around())
            return execute(sql, params, many, context)

        for one in connections.all():
            stack.enter_context(one.execute_wrapper(enter))
        yield


def _renew() -> None:
    global _using
    _using = threading.RLock()


os.register_at_fork(
    before=lambda: _using.acquire(),
    after_in_parent=lambda: _using.release(),
    after_in_child=_renew,
)
