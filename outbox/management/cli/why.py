"""Say why a delivery, or each delivery of an event, is where it is."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox.diagnosis import why, why_event
from outbox.models import Delivery, Event

from .common import delivery_id, find_event


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the id."""
    parser.add_argument("id", metavar="ID", help="a delivery's id, or an event's (a UUID)")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write a sentence for the event, and one for each delivery."""
    event = find_event(options["id"])
    if event is None:
        write(_delivery(_find_delivery(options["id"]), with_event=True))
        return
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
