"""A project's tenant in a context variable, and its two functions for `OUTBOX["TENANT"]`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: The tenant of the running code.
current: ContextVar[str | None] = ContextVar("tests_tenant", default=None)

NAMES = {"CAPTURE": f"{__name__}.capture", "RESTORE": f"{__name__}.restore"}


def capture() -> str | None:
    return current.get()


@contextmanager
def restore(tenant: str | None) -> Iterator[None]:
    reset = current.set(tenant)
    try:
        yield
    finally:
        current.reset(reset)


@contextmanager
def suppressing(tenant: str | None) -> Iterator[None]:
    try:
        with restore(tenant):
            yield
    except Exception:
        return


@contextmanager
def without_bolt(tenant: str | None) -> Iterator[None]:
    if tenant == "bolt":
        raise LookupError("its schema is gone")
    with restore(tenant):
        yield


def failing(tenant: str | None) -> None:
    raise LookupError(f"no tenant {tenant}")


def no_manager(tenant: str | None) -> Iterator[None]:
    yield


def without_request() -> str | None:
    raise LookupError("no request")


def number() -> int:
    return 7


@contextmanager
def failing_at_its_end(tenant: str | None) -> Iterator[None]:
    with restore(tenant):
        yield
    raise LookupError("the schema is not reset")
