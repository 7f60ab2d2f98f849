"""Who and what causes the events that are emitted right now, so that nobody has to pass it on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from uuid_utils.compat import uuid7

from .tracing import trace_id

CORRELATION_HEADER = "X-Correlation-ID"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why an event is emitted.

    Attributes:
        correlation_id: shared by everything that follows from one first cause.
        causation_id: the event whose handler is running, or None.
        emitted_by: that handler's pinned name, or "".
        actor: who started it all: "user:7", the name of a job, or "".
    """

    correlation_id: UUID = field(default_factory=uuid7)
    causation_id: UUID | None = None
    emitted_by: str = ""
    actor: str = ""


@dataclass
class _RequestCause:
    """A request as a cause. Its user is asked late: token authentication runs inside the view.

    Attributes:
        is_unchecked: the caller chose the correlation id, and nobody has looked whose it is.
    """

    request: HttpRequest
    correlation_id: UUID
    is_unchecked: bool = False

    def resolve(self) -> Cause:
        user = getattr(self.request, "user", None)
        actor = f"user:{user.pk}" if user is not None and user.is_authenticated else ""
        return Cause(correlation_id=self.correlation_id, actor=actor)

    def may_join_any(self) -> bool:
        user = getattr(self.request, "user", None)
        return user is not None and user.has_perm("outbox.view_event")


_current: ContextVar[Cause | _RequestCause | None] = ContextVar("outbox_cause", default=None)


def current_cause() -> Cause:
    """Return the cause of an event that is emitted now; a new one outside request and handler."""
    cause = _current.get()
    if isinstance(cause, _RequestCause):
        return cause.resolve()
    return cause or Cause()


def check_correlation(actor_of: Callable[[UUID], str | None]) -> None:
    """Give the running request a new correlation id if it brought one of another actor's.

    Else a caller could add events to what followed from somebody else's request. Callers who may
    view all events may add to any of them. It is checked once, before the first event.

    Args:
        actor_of: returns the actor of the first event with a correlation id; None without one.
    """
    cause = _current.get()
    if not isinstance(cause, _RequestCause) or not cause.is_unchecked:
        return
    cause.is_unchecked = False
    owner = actor_of(cause.correlation_id)
    if owner not in (None, cause.resolve().actor) and not cause.may_join_any():
        given, cause.correlation_id = cause.correlation_id, uuid7()
        logger.warning(
            "The request brought another actor's correlation id, %s; its events get %s.",
            given,
            cause.correlation_id,
        )


def running_handler() -> str:
    """Return the pinned name of the handler that is running, or ""."""
    cause = _current.get()
    return cause.emitted_by if isinstance(cause, Cause) else ""


@contextmanager
def caused_by(cause: Cause | _RequestCause) -> Iterator[None]:
    """Make `cause` the cause of all that is emitted within the block."""
    reset = _current.set(cause)
    try:
        yield
    finally:
        _current.reset(reset)


@contextmanager
def acting_as(actor: str) -> Iterator[None]:
    """Name the actor of the events emitted within the block, for jobs and commands.

    What causes them stays as it is, in a handler too.

    Args:
        actor: a short name without personal data, for example "job:close-stale-orders".
    """
    with caused_by(replace(current_cause(), actor=actor)):
        yield


class CorrelationFilter(logging.Filter):
    """Put `correlation_id` and `handler` on log records: those of what runs now, or "".

    With tracing, in a trace, `trace_id` as well.
    For a log handler's `filters` in Django's LOGGING; what a record brings itself stays.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete the record; none is left out."""
        cause = _current.get()
        # A request's user is not asked for: that may read the database, which may be logged.
        known = {
            "correlation_id": str(cause.correlation_id) if cause else "",
            "handler": running_handler(),
        }
        if found := trace_id():
            known["trace_id"] = found
        for name, value in known.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class RequestContextMiddleware:
    """Give each request a correlation id: the one its header brings, or a new one.

    The id is on every event that the request emits, on all that follows from these, and on the
    response (`X-Correlation-ID`). An id under which another actor has events already is replaced
    by a new one. Put it after Django's authentication middleware.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request within its context."""
        cause = _request_cause(request)
        with caused_by(cause):
            response = self.get_response(request)
        response[CORRELATION_HEADER] = str(cause.correlation_id)
        return response


def _request_cause(request: HttpRequest) -> _RequestCause:
    try:
        given = UUID(request.headers.get(CORRELATION_HEADER, ""))
    except ValueError:
        return _RequestCause(request, uuid7())
    return _RequestCause(request, given, is_unchecked=True)
