"""Explain the state of a delivery, or of all events and delayed events of a key or subject."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError
from django.db.models import Q

from outbox import databases
from outbox.deliveries.outstanding import owed_events
from outbox.models import DelayedEvent, Delivery, Event
from outbox.monitor.diagnosis import why, why_delayed, why_event
from outbox.privacy import subjects

from .common import MOST_EVENTS, delivery_id, events_of_key, find_event


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the id."""
    parser.add_argument(
        "id",
        metavar="ID",
        help="a delivery's id, an event's, a key, such as an order's id, or a subject: customer:7",
    )


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write a sentence for each event, each of its deliveries, and each delayed event."""
    text = options["id"]
    about = Q(subject=text) | Q(key__in=subjects.keys_of(text))
    events, delayed = _events(text, about), _delayed(text, about)
    if not events and not delayed and (event := find_event(text)):
        events = [event]
    for event in events:
        _write_event(event, write)
    for row in delayed:
        write(f"delayed event {row.pk}: {row.name} {row.key}\n    {why_delayed(row)}")
    if not events and not delayed:
        write(_delivery(_find_delivery(text), with_event=True))


def _events(key: str, about_subject: Q) -> list[Event]:
    """Return all events of a key, then the owed events about a subject."""
    owed = owed_events(using=databases.alias()).filter(about_subject).exclude(key=key)
    # Without LIMIT in the query: with one, PostgreSQL may read all events in the order of seq.
    return [*events_of_key(key), *list(owed.order_by("seq"))[:MOST_EVENTS]]


def _delayed(text: str, about_subject: Q) -> list[DelayedEvent]:
    """Return the delayed events of a key, a subject or an id, the first due first."""
    is_meant = about_subject | Q(key=text)
    with suppress(ValueError):  # the text may be no UUID
        is_meant |= Q(pk=UUID(text))
    rows = DelayedEvent.objects.using(databases.alias()).filter(is_meant)
    return list(rows.order_by("due_at", "id")[:MOST_EVENTS])


def _write_event(event: Event, write: Callable[[str], object]) -> None:
    write(f"event {event.id}: {event.name} {event.key}\n    {why_event(event)}")
    rows = event.deliveries.select_related("subscription").prefetch_related("failures")
    for row in rows.order_by("id"):
        write(_delivery(row, with_event=False))


def _find_delivery(text: str) -> Delivery:
    rows = Delivery.objects.select_related("subscription", "event")
    found = rows.filter(pk=delivery_id(text)).first()
    if found is None:
        raise CommandError(f"There is no delivery {text}; it may have been pruned.")
    return found


def _delivery(row: Delivery, *, with_event: bool) -> str:
    of_event = f", of {_event(row.event)}" if with_event else ""
    return f"delivery {row.pk} to {row.subscription.handler}{of_event}: {row.state}\n    {why(row)}"


def _event(event: Event) -> str:
    return f"{event.name} {event.key} ({event.id})"
