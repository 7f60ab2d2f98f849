"""The chain of causes through a task: headers of its message, and the cause while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import UUID

from outbox import tenants
from outbox.context import Cause, caused_by
from outbox.events import EventRecord

_CORRELATION, _CAUSATION, _ACTOR, _TENANT = (
    "outbox_correlation_id",
    "outbox_causation_id",
    "outbox_actor",
    "outbox_tenant",
)


def headers_of(event: EventRecord) -> dict[str, str]:
    """Return the headers by which the task's process continues the chain of a stored call."""
    headers = {
        _CORRELATION: str(event.correlation_id),
        _CAUSATION: str(event.id),
        _ACTOR: event.actor,
        _TENANT: event.tenant or "",
        "traceparent": event.traceparent,
        "tracestate": event.tracestate,
    }
    return {name: value for name, value in headers.items() if value}


def begin(*, task: Any = None, **_kwargs: Any) -> None:
    """Set the cause of the events that a task emits. A receiver of Celery's `task_prerun`."""
    cause = _cause(task.request.headers or {})
    if cause is not None:
        block = caused_by(cause)
        block.__enter__()
        task.request.outbox_cause = block


def end(*, task: Any = None, **_kwargs: Any) -> None:
    """Remove the cause. A receiver of Celery's `task_postrun`."""
    block = getattr(task.request, "outbox_cause", None)
    if block is not None:
        block.__exit__(None, None, None)


def tenant_of(headers: Mapping[str, Any] | None) -> AbstractContextManager[None]:
    """Restore the tenant of a stored call while its task runs; do nothing in other calls."""
    sent = headers or {}
    if _CAUSATION not in sent:  # a direct call, or one that was sent without the outbox
        return nullcontext()
    return tenants.restored(str(sent.get(_TENANT, "")) or None)


def tenant_after(parent: Any, parent_id: object) -> str | None:
    """Return the tenant of a task that Celery sends after the body of another: that of the other.

    It is the one of the message, as the body's context has ended, or could not be restored. For
    other calls it is `tenants.CAPTURED`: the running code may have changed the tenant.

    Args:
        parent: the task that this thread runs, or None.
        parent_id: the option of the call.
    """
    request: Any = getattr(parent, "request", None)
    if not (getattr(request, "outbox_has_run", False) and follows(parent, parent_id)):
        return tenants.CAPTURED
    sent = request.headers or {}
    return str(sent.get(_TENANT, "")) or None if _CAUSATION in sent else tenants.CAPTURED


def follows(parent: Any, parent_id: object) -> bool:
    """Return whether Celery sends a call after the body of the task that this thread runs.

    Celery sets the option `parent_id` of such a call: for `link=`, `link_error=` and chains.
    """
    request: Any = getattr(parent, "request", None)
    return parent_id is not None and parent_id == getattr(request, "id", None)


def _cause(headers: dict[str, Any]) -> Cause | None:
    try:
        return Cause(
            correlation_id=UUID(headers[_CORRELATION]),
            causation_id=UUID(headers[_CAUSATION]),
            actor=str(headers.get(_ACTOR, "")),
            tenant=str(headers.get(_TENANT, "")),
        )
    except (KeyError, ValueError, TypeError, AttributeError):
        return None  # it was sent without the outbox
