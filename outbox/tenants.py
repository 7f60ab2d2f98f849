"""The tenant of an event: captured by `emit`, stored with the event, restored around its handlers.

A tenant is a text, such as the name of a schema. Two functions of the project know what it means:

    OUTBOX = {"TENANT": {"CAPTURE": "sites.tenants.current", "RESTORE": "sites.tenants.restored"}}

`CAPTURE` returns the tenant of the running code. `RESTORE` returns a context manager that makes a
tenant the current one: it sets a schema, a variable of the database session or a context variable.
Events that a handler emits have its tenant, since `CAPTURE` reads what `RESTORE` has set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .conf import conf

#: Most deliveries of one tenant that a handler has in flight, unless SHARE_WINDOW of the setting or
#: the handler's own `share_window` is another number.
SHARE_WINDOW = 10

#: In place of a tenant: the one that `capture` returns. No event has an empty one.
CAPTURED = ""

#: The end of the note of an exception that `RESTORE` raised after the block.
_AT_END = " failed at its end."
_KEYS = ("CAPTURE", "RESTORE", "SHARE_WINDOW")

#: The tenant that `capture` returns, unless it is `CAPTURED`.
_known: ContextVar[str | None] = ContextVar("outbox_tenant", default=CAPTURED)

F = TypeVar("F", bound=Callable[..., object])


def is_on() -> bool:
    """Return whether events have tenants: `OUTBOX["TENANT"]` is set."""
    return bool(conf().TENANT)


def capture() -> str | None:
    """Return the tenant of the running code; None without one, or without the setting.

    Raises:
        ImproperlyConfigured: the setting is invalid.
        TypeError: `CAPTURE` returned another type.
        Exception: `CAPTURE` raised it. A note of the exception names the function.
    """
    if not is_on():
        return None
    if (known := _known.get()) != CAPTURED:
        return known
    with _naming("CAPTURE"):
        path, function = _function("CAPTURE")
        found = function()
        if found is not None and not isinstance(found, str):
            raise TypeError(
                f'{path}, OUTBOX["TENANT"]["CAPTURE"], returned {type(found).__name__}. Let it '
                "return the tenant as a text, or None without a tenant."
            )
    return found or None


@contextmanager
def given(tenant: str | None) -> Iterator[None]:
    """Let `capture` return a tenant that the outbox knows, within the block; not if `CAPTURED`.

    No function of the project is called. Do not run code of the project within it.
    """
    reset = _known.set(tenant)
    try:
        yield
    finally:
        _known.reset(reset)


def is_of_capture(error: BaseException) -> bool:
    """Return whether `CAPTURE` raised an exception."""
    return any(note.startswith(_place("CAPTURE")) for note in notes_of(error))


def is_of_restore(error: BaseException) -> bool:
    """Return whether `RESTORE` raised an exception before the tenant was the current one."""
    mine = (note for note in notes_of(error) if note.startswith(_place("RESTORE")))
    return any(not note.endswith(_AT_END) for note in mine)


def notes_of(error: BaseException) -> list[str]:
    """Return the notes that name `CAPTURE` or `RESTORE`, and none of other code."""
    notes = getattr(error, "__notes__", ())
    return [note for note in notes if note.startswith((_place("CAPTURE"), _place("RESTORE")))]


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Add a note with the function of a key of the setting to exceptions of the block.

    Their types do not change: an error of the database is retried.
    """
    try:
        yield
    except Exception as error:
        error.add_note(_note(key, " failed."))
        raise


def _note(key: str, end: str) -> str:
    found = _given()
    path = found.get(key) if isinstance(found, Mapping) else None
    return f"{_place(key)}, the function {path},{end}"


def _place(key: str) -> str:
    return f'OUTBOX["TENANT"]["{key}"]'


def restored(tenant: str | None) -> AbstractContextManager[None]:
    """Return a context manager within which `tenant` is the current one.

    None stands for an event without a tenant. It is restored, too: the thread may still have the
    tenant of its caller.

    Raises:
        ImproperlyConfigured: an event has a tenant, and the setting is missing or invalid.
        Exception: `RESTORE` raised it. A note of the exception names the function.
    """
    if conf().TENANT:
        return _restored(tenant)
    if tenant:
        raise ImproperlyConfigured(
            f'The event belongs to the tenant {tenant}, but OUTBOX["TENANT"] is not set in this '
            "process. Set it, restart the process, and retry the delivery."
        )
    return nullcontext()


@contextmanager
def _restored(tenant: str | None) -> Iterator[None]:
    with _naming("RESTORE"):
        manager = _manager(tenant)
        manager.__enter__()
    error: BaseException | None = None
    try:
        yield
    except BaseException as caught:
        error = caught
        raise
    finally:
        _leave(manager, error)


def _leave(manager: AbstractContextManager[Any], error: BaseException | None) -> None:
    """Leave the context of a tenant. An error that it suppresses goes on.

    A failed handler must not seem done.
    """
    try:
        manager.__exit__(
            type(error) if error else None, error, getattr(error, "__traceback__", None)
        )
    except Exception as raised:
        if raised is not error:
            raised.add_note(_note("RESTORE", _AT_END))
            raise


def _manager(tenant: str | None) -> AbstractContextManager[Any]:
    path, function = _function("RESTORE")
    made = function(tenant)
    if not isinstance(made, AbstractContextManager):
        raise TypeError(
            f'{path}, OUTBOX["TENANT"]["RESTORE"], returned {type(made).__name__}, which is no '
            "context manager. Decorate the function by contextlib.contextmanager."
        )
    return made


def of_all_tenants(function: F) -> F:
    """Mark a bulk handler of the outbox that takes deliveries of several tenants in one call.

    No tenant is restored around the call, and no share limits its deliveries.
    """
    function.is_of_all_tenants = True  # type: ignore[attr-defined]  # `is_of_all` reads it
    return function


def is_of_all(function: Callable[..., object]) -> bool:
    """Return whether a handler's function takes deliveries of several tenants in one call."""
    return getattr(function, "is_of_all_tenants", False)


def share_window() -> int | None:
    """Return the `share_window` of handlers that declare none; None without the setting.

    An invalid value counts as none: `manage.py check` reports it after handlers are declared.
    """
    given = _given()
    found = given.get("SHARE_WINDOW", SHARE_WINDOW) if isinstance(given, Mapping) else None
    return found if given and _is_window(found) else None


def require_valid() -> None:
    """Check the setting.

    Raises:
        ImproperlyConfigured: it is invalid. The text names the cause and the next step.
    """
    given = _given()
    if not given:
        return
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(
            f'OUTBOX["TENANT"] has the invalid value {given!r}. Set it to a dictionary with '
            "CAPTURE and RESTORE, each the dotted path of a function, or remove it."
        )
    _refuse_unknown_keys(given)
    _function("CAPTURE")
    _function("RESTORE")
    _refuse_bad_window(given.get("SHARE_WINDOW", SHARE_WINDOW))


def _refuse_unknown_keys(given: Mapping[str, Any]) -> None:
    for key in given:
        if key not in _KEYS:
            raise ImproperlyConfigured(
                f'OUTBOX["TENANT"] has no key {key}. The keys are {", ".join(_KEYS)}.'
            )


def _refuse_bad_window(window: object) -> None:
    if not _is_window(window):
        raise ImproperlyConfigured(
            f'OUTBOX["TENANT"]["SHARE_WINDOW"] has the invalid value {window!r}. '
            "Set it to a whole number above zero, or to None for no limit."
        )


def _function(key: str) -> tuple[str, Callable[..., Any]]:
    """Return the dotted path of a key of the setting, and its function."""
    given = _given()
    path = given.get(key) if isinstance(given, Mapping) else None
    if not path or not isinstance(path, str):
        raise ImproperlyConfigured(
            f'OUTBOX["TENANT"] needs {key}. Set it to the dotted path of a function, such as '
            '"sites.tenants.current".'
        )
    try:
        function = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(
            f'OUTBOX["TENANT"]["{key}"] names {path}, which cannot be imported: {error}. Correct '
            "the dotted path."
        ) from error
    if not callable(function):
        raise ImproperlyConfigured(
            f'OUTBOX["TENANT"]["{key}"] names {path}, which is no function but '
            f"{type(function).__name__}. Name a function."
        )
    return path, function


def _given() -> Any:
    return getattr(settings, "OUTBOX", {}).get("TENANT")


def _is_window(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)
