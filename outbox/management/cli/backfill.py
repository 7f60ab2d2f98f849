"""Deliver to a handler the events from before its subscription, at a limited rate."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox import databases, operations
from outbox.operations.backfills import Backfill

from .acting import (
    Progress,
    add_acting,
    explained_interrupt,
    reason_of,
    summary,
    write_preview,
)
from .choosing import add_event_choice, choice_of
from .common import count, operator


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the handler, and the filters of its events."""
    parser.add_argument("handler", metavar="HANDLER", help="its pinned name: app.function")
    add_event_choice(parser)
    parser.add_argument(
        "--out-of-order",
        action="store_true",
        help="deliver to an ordered handler also what is older than what it has handled of a key",
    )
    add_acting(parser, rate=operations.BACKFILL_RATE)


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Backfill, and write the number of deliveries."""
    choice, in_order = choice_of(options), not options["out_of_order"]
    if options["dry_run"]:
        write_preview(operations.preview("backfill", choice), write)
        return
    reason = reason_of(options)
    try:
        stored = Backfill(choice, databases.alias(), in_order=in_order).stored
        with explained_interrupt("backfill", stored):
            done = operations.backfill(
                choice,
                by=operator(),
                reason=reason,
                rate=options["rate"],
                in_order=in_order,
                report=Progress(write),
            )
    except operations.CannotBackfill as error:
        raise CommandError(str(error)) from error
    write(f"{count(done.touched, 'delivery', 'deliveries')} made. {summary(done)}")
