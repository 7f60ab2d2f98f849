"""The listed databases, and the one that the running code works on.

It imports no model, so models import it. Other code imports `outbox.databases`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.conf import settings

#: The database that the running code works on; None: the first listed one, or the router's.
_working_on: ContextVar[str | None] = ContextVar("outbox_database", default=None)


def listed() -> tuple[str, ...]:
    """Return `OUTBOX["DATABASES"]`; empty: the router decides."""
    # Not by conf(), which costs more: emit() calls this.
    given = getattr(settings, "OUTBOX", {}).get("DATABASES", ())
    return tuple(given) if isinstance(given, (list, tuple)) else ()


def chosen() -> str | None:
    """Return the database that the running code works on. None: the router decides."""
    own = _working_on.get()
    known = listed() if own is None else ()
    return known[0] if known else own


@contextmanager
def working_on(using: str | None) -> Iterator[None]:
    """Let the code of the block work on a database. None changes nothing.

    Calls of the public API work on it, too: `is_owed`, `timeline_of`, `cancel_delayed`, operations.
    """
    before = _working_on.get()
    _working_on.set(before if using is None else using)
    try:
        # No token of the variable: a coroutine may enter and exit in two contexts.
        yield
    finally:
        _working_on.set(before)
