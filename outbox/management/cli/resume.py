"""Resume a paused handler: what was parked is sent, the oldest first."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox import operations

from .acting import add_acting, reason_of, write_preview
from .choosing import refuse_unknown_handler
from .common import operator


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the handler, --force, the reason and --dry-run."""
    parser.add_argument("handler", metavar="HANDLER", help="its pinned name: app.function")
    parser.add_argument(
        "--force",
        action="store_true",
        help="also while its backfill is not complete: new events of a key overtake old ones",
    )
    add_acting(parser)


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Resume the handler, or preview that."""
    refuse_unknown_handler(options["handler"])
    try:
        _preview(options, write) if options["dry_run"] else _resume(options, write)
    except operations.HeldByBackfill as error:
        raise CommandError(str(error)) from error


def _preview(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    choice = operations.Choice(handler=options["handler"])
    write_preview(operations.preview("resume", choice, force=options["force"]), write)


def _resume(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    handler, force = options["handler"], options["force"]
    backfill = operations.held_by(handler) if force else None
    reason = reason_of(options, required=False)
    changed = operations.resume(handler, by=operator(), reason=reason, force=force)
    rest = ""
    if backfill is not None:
        rest = (
            f" Its backfill, operation {backfill.pk}, creates nothing more: end it by `manage.py "
            f"outbox go-on {backfill.pk} --give-up`, then begin a backfill of what is missing."
        )
    write(f"{handler} {'runs again' if changed else 'was not paused'}.{rest}")
