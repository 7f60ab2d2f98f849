"""Guards: raise at once for mistakes that would show only under load or after a crash.

They are on in DEBUG and in tests (`OUTBOX["GUARDS"]`). When off, they cost nothing. Each error
begins with the line of user code that broke the rule, and ends with the correct way.

    a handler sends a task inside a transaction             `guards/hooks.py`
    other code does so, if `OUTBOX["GUARD_TASKS"]` is on    `guards/hooks.py`
    a handler connects to something inside a transaction    `guards/hooks.py`
    emit() while another database has a transaction open    `emission.py`
    a row is saved without its lock                         `guards/locks.py`

The transaction that Django's TestCase opens around a test does not count. Callbacks of
`transaction.on_commit` run after the transaction. Threads have their own connections, and so their
own transactions: the nudge and a worker in another thread are not refused.
"""

from __future__ import annotations

import functools
import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType

from django.conf import settings

from outbox.conf import conf

__all__ = ["guards_lifted"]


class RuleBroken(RuntimeError):
    """A guard refused code that would fail under load or after a crash. The text has the line."""


_NOT_THE_USERS = (
    "<",  # <string>, <frozen importlib>
    f"{Path(__file__).parent.parent}/",
    *(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)

#: Library folders that `sysconfig` lacks: of the user, of the system, or of a PYTHONPATH.
_LIBRARIES = re.compile(r"[\\/](site|dist)-packages[\\/]")

_is_on = False
_lifted: ContextVar[bool] = ContextVar("outbox_guards_lifted", default=False)


def are_on() -> bool:
    """Return whether the guards are on and not lifted."""
    return _is_on and not _lifted.get()


def switch_on(*, by_default: bool | None = None) -> bool:
    """Switch the guards on if `OUTBOX["GUARDS"]` is true; return whether they are on.

    Args:
        by_default: the value to use if the setting is None. None: the value of DEBUG.
    """
    global _is_on
    enabled = conf(lenient=True).GUARDS
    if enabled is None:
        enabled = settings.DEBUG if by_default is None else by_default
    _is_on = _is_on or enabled
    return _is_on


@contextmanager
def guards_lifted() -> Iterator[None]:
    """Allow in the block what the guards refuse, for a rare case with a reason.

    For example a handler that reads a local cache inside its transaction, or a test that sets the
    state of a row directly.
    """
    reset = _lifted.set(True)
    try:
        yield
    finally:
        _lifted.reset(reset)


def user_line() -> str:
    """Return "path:line" of the innermost frame outside of Python, libraries and the outbox."""
    for frame in frames():
        if is_users(frame.f_code.co_filename):
            path, here = Path(frame.f_code.co_filename), Path.cwd()
            shown = path.relative_to(here) if path.is_relative_to(here) else path
            return f"{shown}:{frame.f_lineno}"
    return "Code of a library"


def frames() -> Iterator[FrameType]:
    """Yield the frames of the current stack, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


@functools.lru_cache(maxsize=4096)
def is_users(filename: str) -> bool:
    """Return whether a file belongs neither to Python, a library nor the outbox."""
    return not (filename.startswith(_NOT_THE_USERS) or _LIBRARIES.search(filename))
