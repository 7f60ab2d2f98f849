"""Pause a handler: what it is owed is parked, and delays no other handler."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from outbox import operations
from outbox.deliveries.pauses import held_text

from .acting import add_acting, reason_of, write_preview
from .choosing import refuse_unknown_handler
from .common import operator


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the handler, the reason and --dry-run."""
    parser.add_argument("handler", metavar="HANDLER", help="its pinned name: app.function")
    add_acting(parser)


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Pause the handler, or preview that."""
    handler = options["handler"]
    refuse_unknown_handler(handler)
    if options["dry_run"]:
        write_preview(operations.preview("pause", operations.Choice(handler=handler)), write)
        return
    changed = operations.pause(handler, by=operator(), reason=reason_of(options))
    if not changed:
        write(f"{handler} was paused already; the earlier reason stays.")
        return
    backfill = operations.held_by(handler)
    if backfill is not None:
        write(f"{handler} is paused, and {held_text(handler, backfill.pk, backfill.seen_at)}")
        return
    write(f"{handler} is paused: `manage.py outbox resume {handler}` lets it go on.")
