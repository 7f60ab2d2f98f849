"""Deliveries as a start stores them, made of its rows without another read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from outbox.models import Delivery, Event, Subscription

from .lease import duration
from .statements import Columns, Statement, stored

#: Columns of an event for a handler or its trace. Others are read only when a call fails.
EVENT = Columns(
    Event,
    alias="e",
    names=(
        "seq",
        "id",
        "name",
        "version",
        "key",
        "payload",
        "emitted_at",
        "correlation_id",
        "causation_id",
        "actor",
        "traceparent",
        "fanned_out_at",
    ),
)
#: Columns of a subscription that a start needs. They are read once for each delivery.
SUBSCRIPTION = Columns(
    Subscription,
    alias="s",
    names=(
        "id",
        "handler",
        "paused_at",
        "breaker_failures",
        "breaker_opened_at",
        "breaker_probe",
    ),
)


def event_of(seq: int) -> Statement:
    """Return the statement that reads the columns of an event for a handler."""
    return Statement(f"SELECT {EVENT.text} FROM outbox_event e WHERE e.seq = {seq:d}")  # noqa: S608  ours


def started(
    row: Sequence[Any], handler: str, *, worker: str, at: datetime, until: datetime, using: str
) -> Delivery:
    """Return a delivery from a row of its start. Its handler is not paused, its breaker closed."""
    pk, event_id, subscription_id, token, attempts, failures = row
    values = {
        "id": pk,
        "event_id": event_id,
        "subscription_id": subscription_id,
        "state": Delivery.State.SENT,
        "token": token,
        "started_token": token,
        "attempts": attempts,
        "order_key": None,
        "started_at": at,
        "worker": worker,
        "due_at": until,
    }
    delivery = stored(Delivery, values, using=using)
    subscription = {
        "id": subscription_id,
        "handler": handler,
        "paused_at": None,
        "breaker_failures": failures,
        "breaker_opened_at": None,
        "breaker_probe": None,
    }
    delivery.subscription = stored(Subscription, subscription, using=using)
    return delivery


def started_by_relay(
    pk: int,
    subscription: Subscription,
    event: Sequence[Any],
    *,
    worker: str,
    at: datetime,
    using: str,
) -> Delivery:
    """Return the delivery that the relay has stored as started, with its event."""
    of_event = EVENT.read(event, using=using)
    row = (pk, of_event.seq, subscription.pk, 1, 1, subscription.breaker_failures)
    until = at + duration(1, seconds=subscription.lease_seconds)
    delivery = started(row, subscription.handler, worker=worker, at=at, until=until, using=using)
    delivery.event = of_event
    return delivery
