"""End a handler's subscriptions: it hears nothing more, and what it is owed is discarded."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from outbox import operations

from .acting import Progress, add_acting, explained_interrupt, reason_of, summary, write_preview
from .choosing import refuse_unknown_handler
from .common import count, operator


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the handler."""
    parser.add_argument("handler", metavar="HANDLER", help="its pinned name: app.function")
    add_acting(parser)


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """End the subscriptions, or preview that."""
    handler = options["handler"]
    refuse_unknown_handler(handler)
    if options["dry_run"]:
        write_preview(operations.preview("end", operations.Choice(handler=handler)), write)
        return
    reason = reason_of(options)
    with explained_interrupt("end", {"handler": handler}):
        done = operations.end(handler, by=operator(), reason=reason, report=Progress(write))
    discarded = count(done.touched, "delivery", "deliveries")
    write(f"{handler} hears nothing more; {discarded} discarded. {summary(done)}")
