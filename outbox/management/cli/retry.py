"""Make deliveries due now: dead, waiting for their next attempt, or left parked."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError
from django.db.models import QuerySet

from outbox import actions
from outbox.models import Delivery

from .common import count, find_deliveries, operator

_SHOWN = 20


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what narrows the choice; all of it must fit."""
    parser.add_argument("id", nargs="*", metavar="ID", help="delivery ids, or event ids (UUIDs)")
    parser.add_argument("--handler", metavar="HANDLER", help="those of this handler")
    parser.add_argument("--dead", action="store_true", help="the dead ones only")
    parser.add_argument("--dry-run", action="store_true", help="say what would be retried")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Retry the chosen deliveries and say how many."""
    chosen = _chosen(options)
    if options["dry_run"]:
        _preview(chosen, write)
        return
    number = actions.retry(chosen, by=operator())
    if not number:
        raise CommandError(_nothing(options))
    write(f"{count(number, 'delivery', 'deliveries')} due now.")


def _chosen(options: Mapping[str, Any]) -> QuerySet[Delivery]:
    if not (options["id"] or options["handler"] or options["dead"]):
        raise CommandError("Say which: delivery or event ids, --handler HANDLER, or --dead.")
    rows = actions.retryable()
    if options["id"]:
        rows = rows.filter(pk__in=find_deliveries(options["id"]))
    if options["handler"]:
        _refuse_unknown(options["handler"])
        rows = rows.filter(subscription__handler=options["handler"])
    return rows.filter(state=Delivery.State.DEAD) if options["dead"] else rows


def _refuse_unknown(handler: str) -> None:
    try:
        actions.subscriptions_of(handler)
    except actions.UnknownHandler as error:
        raise CommandError(str(error)) from error


def _preview(chosen: QuerySet[Delivery], write: Callable[[str], object]) -> None:
    number = chosen.count()
    for row in chosen.select_related("subscription", "event").order_by("pk")[:_SHOWN]:
        event = row.event
        write(f"delivery {row.pk} to {row.subscription.handler}, {event.name} {event.key}")
    if number > _SHOWN:
        write(f"and {number - _SHOWN:,} more")
    write(f"{count(number, 'delivery', 'deliveries')} would be due now; nothing was changed.")


def _nothing(options: Mapping[str, Any]) -> str:
    if len(options["id"]) == 1:
        return f"Nothing to retry: see `manage.py outbox why {options['id'][0]}`."
    return "Nothing to retry: none of these is dead, waits for an attempt, or was left parked."
