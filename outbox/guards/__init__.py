"""Guard rails: what breaks a rule, and shows only under load or after a crash, raises at once.

On in DEBUG and in tests (`OUTBOX["GUARDS"]`). Off, they cost nothing. Each error begins with the
line of the user's code that is to blame, and ends with what to do instead.

    a task is sent inside a transaction                     `guards/hooks.py`
    a handler connects to something inside a transaction    `guards/hooks.py`
    an event is emitted beside another database's           `emission.py`
    a row is saved without its lock                         `guards/locks.py`

The transaction that Django's TestCase opens around a test is none, callbacks of
`transaction.on_commit` run after theirs, and threads have connections, so transactions, of their
own: the nudge, and a worker beside, disturb nobody.
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


class RuleBroken(RuntimeError):
    """A guard rail found code that works until there is load, or a crash; its text says where."""


_NOT_THE_USERS = (
    "<",  # <string>, <frozen importlib>
    f"{Path(__file__).parent.parent}/",
    *(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)

#: Folders of libraries that `sysconfig` does not name: the user's, the system's, a PYTHONPATH's.
_LIBRARIES = re.compile(r"[\\/](site|dist)-packages[\\/]")

_is_on = False
_lifted: ContextVar[bool] = ContextVar("outbox_guards_lifted", default=False)


def are_on() -> bool:
    """Return whether the guards look, here and now."""
    return _is_on and not _lifted.get()


def switch_on(*, by_default: bool | None = None) -> bool:
    """Switch the guards on if `OUTBOX["GUARDS"]` wants them; return whether they are on.

    Args:
        by_default: whether, if the setting leaves it open. None: if DEBUG is on.
    """
    global _is_on
    wanted = conf(lenient=True).GUARDS
    if wanted is None:
        wanted = settings.DEBUG if by_default is None else by_default
    _is_on = _is_on or wanted
    return _is_on


@contextmanager
def guards_lifted() -> Iterator[None]:
    """Let the block do what the guards refuse, for the rare case that knows why.

    A handler that asks a cache beside it inside its transaction, for example; or a test that puts
    a row into a state, whatever the rules.
    """
    reset = _lifted.set(True)
    try:
        yield
    finally:
        _lifted.reset(reset)


def user_line() -> str:
    """Return "path:line" of the innermost code that is neither Python's, a library's nor ours."""
    for frame in frames():
        if is_users(frame.f_code.co_filename):
            path, here = Path(frame.f_code.co_filename), Path.cwd()
            shown = path.relative_to(here) if path.is_relative_to(here) else path
            return f"{shown}:{frame.f_lineno}"
    return "Code of a library"


def frames() -> Iterator[FrameType]:
    """Yield what runs now, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


@functools.lru_cache(maxsize=4096)
def is_users(filename: str) -> bool:
    """Return whether a file is neither Python's nor a library's, and not of the outbox."""
    return not (filename.startswith(_NOT_THE_USERS) or _LIBRARIES.search(filename))
