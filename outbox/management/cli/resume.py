"""Resume a paused handler: what was parked is sent, the oldest first."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from outbox import actions

from .acting import add_acting, reason_of, write_preview
from .choosing import refuse_unknown_handler
from .common import operator


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the handler."""
    parser.add_argument("handler", metavar="HANDLER", help="its pinned name: app.function")
    add_acting(parser)


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Resume it."""
    handler = options["handler"]
    refuse_unknown_handler(handler)
    if options["dry_run"]:
        write_preview(actions.preview("resume", actions.Choice(handler=handler)), write)
        return
    reason = reason_of(options, required=False)
    changed = actions.resume(handler, by=operator(), reason=reason)
    write(f"{handler} {'runs again' if changed else 'was not paused'}.")
