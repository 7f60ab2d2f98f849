"""The cause and the actor of emitted events, in a context variable instead of arguments."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from uuid import UUID

from django.http import HttpRequest, HttpResponse

from .ids import uuid7
from .tracing import trace_id

CORRELATION_HEADER = "X-Correlation-ID"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why an event is emitted.

    Attributes:
        correlation_id: shared by all events that follow from one request or job.
        causation_id: the event whose handler is running, or None.
        emitted_by: that handler's pinned name, or "".
        actor: the user or job at the start: "user:7", the name of a job, or "".
        tenant: the tenant of the event whose handler is running, for logs, or "". `emit` asks
            `OUTBOX["TENANT"]` instead.
        seq: `seq` of the event whose handler is running; None also for several events.
        request: the request whose cause `acting_as` has changed, or None.
    """

    correlation_id: UUID = field(default_factory=uuid7)
    causation_id: UUID | None = None
    emitted_by: str = ""
    actor: str = ""
    tenant: str = ""
    seq: int | None = None
    request: _RequestCause | None = field(default=None, repr=False, compare=False)


@dataclass
class _RequestCause:
    """A request as a cause. Its user is read late: token authentication runs inside the view.

    Attributes:
        is_unchecked: the caller chose the correlation id.
        checked: the databases in which no other actor has it.
    """

    request: HttpRequest
    correlation_id: UUID
    is_unchecked: bool = False
    checked: set[str] = field(default_factory=set)

    def resolve(self) -> Cause:
        user = getattr(self.request, "user", None)
        # Token authentication may set an object that is no row: a service has no `pk`.
        pk = getattr(user, "pk", None) if getattr(user, "is_authenticated", False) else None
        actor = "" if pk is None else f"user:{pk}"
        return Cause(correlation_id=self.correlation_id, actor=actor, request=self)

    def may_join_any(self) -> bool:
        user = getattr(self.request, "user", None)
        has_perm = getattr(user, "has_perm", None)  # a model without PermissionsMixin has none
        return has_perm is not None and has_perm("outbox.view_event")


_current: ContextVar[Cause | _RequestCause | None] = ContextVar("outbox_cause", default=None)


def current_cause() -> Cause:
    """Return the cause of events emitted now. Outside request and handler it is a new one."""
    cause = _current.get()
    if isinstance(cause, _RequestCause):
        return cause.resolve()
    if cause is not None and cause.request is not None:  # its id may have been replaced since
        return replace(cause, correlation_id=cause.request.correlation_id)
    return cause or Cause()


def current_correlation_id() -> str:
    """Return the correlation id of the running code; "" outside of any context.

    It does not read the request's user: that may query the database, which may be logged or down.
    """
    cause = _current.get()
    if isinstance(cause, Cause) and cause.request is not None:
        cause = cause.request
    return str(cause.correlation_id) if cause else ""


def check_correlation(actor_of: Callable[[UUID], str | None], *, using: str) -> None:
    """Give the running request a new correlation id if its id belongs to another actor.

    Otherwise a caller could add events to another person's timeline. Callers with permission to
    view all events may use any id. The id is checked before the first event in each database.

    Args:
        actor_of: returns the actor of the first event with a correlation id in the database
            `using`; None without one.
    """
    current = _current.get()
    cause = current.request if isinstance(current, Cause) else current
    if cause is None or not cause.is_unchecked or using in cause.checked:
        return
    owner = actor_of(cause.correlation_id)
    actors = (None, cause.resolve().actor, current_cause().actor)
    is_allowed = owner in actors or cause.may_join_any()
    cause.checked.add(using)  # after all queries: if one fails, the next event is checked
    if not is_allowed:
        given, cause.correlation_id = cause.correlation_id, uuid7()
        cause.is_unchecked = False
        logger.warning(
            "The request has the correlation id %s of another actor. Its events get %s.",
            given,
            cause.correlation_id,
        )


def running_handler() -> str:
    """Return the pinned name of the handler that is running, or ""."""
    cause = _current.get()
    return cause.emitted_by if isinstance(cause, Cause) else ""


def _tenant() -> str:
    """Return the tenant of the handler that is running, or ""."""
    cause = _current.get()
    return cause.tenant if isinstance(cause, Cause) else ""


@contextmanager
def caused_by(cause: Cause | _RequestCause) -> Iterator[None]:
    """Set the cause of all events emitted within the block."""
    reset = _current.set(cause)
    try:
        yield
    finally:
        _current.reset(reset)


@contextmanager
def acting_as(actor: str) -> Iterator[None]:
    """Set the actor of the events emitted within the block, for jobs and commands.

    Correlation id and causation id do not change, not even in a handler.

    Args:
        actor: a short name without personal data, for example "job:close-stale-orders".
    """
    # A lazy text or an id is accepted, too; the driver takes only a plain text.
    with caused_by(replace(current_cause(), actor=str(actor))):
        yield


@contextmanager
def correlated(correlation_id: UUID) -> Iterator[None]:
    """Set the correlation id of the events emitted within the block, and of its log lines.

    Use it where an answer arrives in a separate request, such as a webhook. Causation id and actor
    do not change.

    Args:
        correlation_id: a stored id: the argument `correlation_id` of the handler that asked, or
            that of an event. It is not compared with the actor, so do not accept it from a client.

    Raises:
        TypeError: `correlation_id` is no UUID.
    """
    if not isinstance(correlation_id, UUID):
        raise TypeError(
            f"correlated() takes a UUID, not {correlation_id!r}. Convert a text: UUID(text)."
        )
    cause = _current.get()
    if isinstance(cause, _RequestCause):  # its user may be set within the block
        known = _RequestCause(cause.request, correlation_id)
        with caused_by(known):
            yield
        return
    with caused_by(replace(current_cause(), correlation_id=correlation_id, request=None)):
        yield


class CorrelationFilter(logging.Filter):
    """Add `correlation_id` and `handler` to log records: those of the running code, or "".

    Within a trace it adds `trace_id`, and while the event of a tenant is handled `tenant`. It does
    not replace attributes that a record has. Use it in a log handler's `filters` in Django's
    LOGGING.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes. Return True: no record is dropped."""
        known = {
            "correlation_id": current_correlation_id(),
            "handler": running_handler(),
        }
        if found := trace_id():
            known["trace_id"] = found
        if of := _tenant():
            known["tenant"] = of
        for name, value in known.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class RequestContextMiddleware:
    """Give each request a correlation id: the id of its `X-Correlation-ID` header, or a new one.

    Every event that the request emits has the id, except within `correlated`. So have all events
    that follow from these, and the response (`X-Correlation-ID`). An id with events of another
    actor is replaced by a new one.
    Put the middleware after Django's authentication middleware.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Handle the request within its context."""
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
