"""The arguments of a handler's call for a delivery, and the cause of the events it emits."""

from __future__ import annotations

from typing import Any

from outbox.context import Cause
from outbox.contracts import upcasting
from outbox.models import Delivery
from outbox.subscriptions import Handler


def arguments(handler: Handler, delivery: Delivery, **more: Any) -> dict[str, Any]:
    """Return the keyword arguments of the handler's call.

    Raises `PermanentFailure` if the stored event does not fit the handler.
    """
    payload = upcasting.current_payload(delivery.event)
    return handler.arguments(payload=payload, facts={**_facts(delivery), **more})


def cause(handler: Handler, delivery: Delivery) -> Cause:
    """Return the cause of the events that the handler emits."""
    event = delivery.event
    return Cause(
        correlation_id=event.correlation_id,
        causation_id=event.id,
        emitted_by=handler.name,
        actor=event.actor,
    )


def _facts(delivery: Delivery) -> dict[str, Any]:
    event = delivery.event
    return {
        "event_id": event.id,
        "emitted_at": event.emitted_at,
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "actor": event.actor,
        "key": event.key,
        "attempt": delivery.attempts,
    }
