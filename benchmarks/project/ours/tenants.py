"""The tenant of an emitting process, `BENCHMARK_TENANT`, restored in a context variable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_current: ContextVar[str | None] = ContextVar("benchmark_tenant", default=None)


def current() -> str | None:
    """Return the restored tenant, or the process's own."""
    return _current.get() or os.environ.get("BENCHMARK_TENANT")


@contextmanager
def restored(tenant: str | None) -> Iterator[None]:
    """Make a tenant the current one."""
    reset = _current.set(tenant)
    try:
        yield
    finally:
        _current.reset(reset)
