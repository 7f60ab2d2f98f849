"""Say why a delivery is where it is: one, or each of an event, or of all events of a key."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox.models import Delivery, Event
from outbox.monitor.diagnosis import why, why_event

from .common import delivery_id, find_events


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the id."""
    parser.add_argument(
        "id", metavar="ID", help="a delivery's id, an event's, or a key, such as an order's id"
    )


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write a sentence for the event, and one for each delivery."""
    text = options["id"]
    about = find_events(text)
    for event in about:
        _write_event(event, write)
    if not about:
        write(_delivery(_find_delivery(text), with_event=True))


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
