"""Close a handler's open breaker: it goes on at once, without waiting for a probe."""

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
    """Declare the handler, the reason and --dry-run."""
    parser.add_argument("handler", metavar="HANDLER", help="its pinned name: app.function")
    add_acting(parser)


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Close the breaker, or preview that."""
    handler = options["handler"]
    refuse_unknown_handler(handler)
    if options["dry_run"]:
        write_preview(
            operations.preview("close_breaker", operations.Choice(handler=handler)), write
        )
        return
    if not operations.close_breaker(handler, by=operator(), reason=reason_of(options)):
        raise CommandError(f"No breaker of {handler} is open.")
    write(f"{handler} goes on, a little at first; its breaker opens again if that fails.")
