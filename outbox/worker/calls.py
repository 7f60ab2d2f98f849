"""The call of a handler: its arguments, its cause, and its isolation from other calls.

Three kinds of state outlive a call: context variables (such as Django's language and time zone),
settings of the database session, and caches of rows that were rolled back.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from contextvars import copy_context
from types import TracebackType
from typing import Any

from django.apps import apps
from django.db import connections

from outbox import events
from outbox.context import Cause
from outbox.contracts import upcasting
from outbox.deliveries.connections import drop
from outbox.deliveries.time_limit import Limit
from outbox.events import EventRecord
from outbox.models import Delivery, Event
from outbox.subscriptions import Handler

from . import coroutines
from .session_sql import Scope, scope_of

logger = logging.getLogger("outbox.isolation")

#: Handlers that have set session state in this process, so their deliveries share no transaction.
_one_by_one: set[str] = set()


#: Predicates of values that a function returns before its body has run.
_LAZY = (inspect.isawaitable, inspect.isgenerator, inspect.isasyncgen)


class SessionStateSet(Exception):
    """A handler has set state of the database session within a batch, so it runs again alone."""


def arguments(handler: Handler, delivery: Delivery, **more: Any) -> dict[str, Any]:
    """Return the keyword arguments of the handler's call.

    Raises `PermanentFailure` if the stored event does not fit the handler.
    """
    event = delivery.event
    payload = upcasting.current_payload(event)
    facts = {
        "event_id": event.id,
        "emitted_at": event.emitted_at,
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "actor": event.actor,
        "key": event.key,
        "target": delivery.target,
        "attempt": delivery.attempts,
        **more,
    }
    if "event" in handler.parameters:
        facts["event"] = record_of(event, payload)
    return handler.arguments(payload=payload, facts=facts)


def record_of(event: Event, payload: Mapping[str, Any]) -> EventRecord:
    """Return a stored event for a handler, with its payload in the current version."""
    declared = events.find(event.name)
    return EventRecord(
        id=event.id,
        name=event.name,
        version=declared.event_version if declared else event.version,
        key=event.key,
        payload=payload,
        emitted_at=event.emitted_at,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        actor=event.actor,
        traceparent=event.traceparent,
        tracestate=event.tracestate,
        tenant=event.tenant,
    )


def cause(handler: Handler, delivery: Delivery) -> Cause:
    """Return the cause of the events that the handler emits."""
    event = delivery.event
    return Cause(
        correlation_id=event.correlation_id,
        causation_id=event.id,
        emitted_by=handler.name,
        actor=event.actor,
        tenant=event.tenant or "",
        seq=event.seq,
    )


def call(handler: Handler, arguments: Mapping[str, Any], limit: Limit) -> None:
    """Call a handler in a copy of the context, so that its context variables end with it.

    Args:
        handler: the handler. If it is async, its coroutine runs to its end.
        arguments: its keyword arguments.
        limit: the running time limit.

    Raises:
        TypeError: it returned a coroutine or a generator, so its body has not run.
    """
    if handler.is_async:
        coroutines.run(handler.function, arguments, limit)
        return
    returned = copy_context().run(handler.function, **arguments)
    if returned is not None and any(is_one(returned) for is_one in _LAZY):
        if hasattr(returned, "close"):  # avoids the warning "never awaited"
            returned.close()
        raise TypeError(
            f"{handler.name} returned {type(returned).__name__}, so its body has not run. Declare "
            "it by `async def`, or return nothing."
        )


def may_share(handler: Handler) -> bool:
    """Return whether deliveries of a handler may share a transaction."""
    return handler.shared_transaction and handler.name not in _one_by_one


def deliver_one_by_one(handler: Handler) -> None:
    """Let deliveries of this handler share no transaction in this process from now on."""
    if handler.name not in _one_by_one:
        _one_by_one.add(handler.name)
        logger.warning(
            "%s sets state of the database session, so its deliveries share no transaction. "
            "Declare that by @subscribe(..., shared_transaction=False).",
            handler.name,
        )


def forget_caches() -> None:
    """Clear Django's caches of rows, which may contain rolled-back rows."""
    if apps.is_installed("django.contrib.contenttypes"):
        apps.get_model("contenttypes", "ContentType").objects.clear_cache()
    if apps.is_installed("django.contrib.sites"):
        from django.contrib.sites.models import SITE_CACHE

        SITE_CACHE.clear()


class SessionWatch:
    """Records whether statements of a block set state of a database session.

    Attributes:
        is_set: whether state was set, perhaps only for the current transaction.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._lasting: set[str] = set()
        self._stack = ExitStack()

    def __enter__(self) -> SessionWatch:
        for connection in connections.all():  # the block may be the first to use one of them
            self._stack.enter_context(connection.execute_wrapper(self._look))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def drop_changed(self) -> None:
        """Drop the connections whose session state outlasts the transaction."""
        for connection in connections.all(initialized_only=True):
            if connection.alias in self._lasting and not connection.in_atomic_block:
                drop(connection)

    def _look(
        self, execute: Callable[..., Any], sql: object, params: Any, many: bool, context: Any
    ) -> Any:
        connection = context["connection"]
        scope = scope_of(sql, params, connection)
        self.is_set |= scope is not Scope.NONE
        if scope is Scope.SESSION:
            self._lasting.add(connection.alias)
        return execute(sql, params, many, context)
