"""Give a handler the events that were told before it listened, at a rate that spares the rest."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox import actions

from .acting import Progress, add_acting, reason_of, told, write_preview
from .choosing import add_event_choice, choice_of
from .common import count, operator


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the handler, and what narrows its events."""
    parser.add_argument("handler", metavar="HANDLER", help="its pinned name: app.function")
    add_event_choice(parser)
    add_acting(parser, rate=actions.BACKFILL_RATE)


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Backfill, and say how much."""
    choice = choice_of(options)
    if options["dry_run"]:
        write_preview(actions.preview("backfill", choice), write)
        return
    try:
        done = actions.backfill(
            choice,
            by=operator(),
            reason=reason_of(options),
            rate=options["rate"],
            report=Progress(write),
        )
    except actions.CannotBackfill as error:
        raise CommandError(str(error)) from error
    write(f"{count(done.touched, 'delivery', 'deliveries')} made. {told(done)}")
