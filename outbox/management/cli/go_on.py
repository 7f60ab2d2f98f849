"""Go on with an operation that was killed half-way, or give it up."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox import databases, operations
from outbox.models import Operation

from .acting import Progress, interrupted
from .common import operator

_SAFE = "What it had touched before was not touched again, so no handler runs again because of it."


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the operation's id, and --give-up."""
    parser.add_argument("number", type=int, metavar="NUMBER", help="see `manage.py outbox log`")
    parser.add_argument("--give-up", action="store_true", help="leave the rest of it undone")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Continue the operation, or give it up."""
    number = options["number"]
    try:
        if options["give_up"]:
            done = operations.give_up(number, by=operator())
        else:
            done = operations.go_on(number, by=operator(), report=Progress(write))
    except (operations.NotRunning, operations.CannotBackfill, operations.UnknownHandler) as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        row = Operation.objects.using(databases.alias()).filter(pk=number).first()
        is_running = row is not None and row.state == Operation.State.RUNNING
        raise interrupted(row if is_running else None) from None
    state = done.get_state_display()
    text = f"Operation {number}, {done.action}, is {state}: {done.touched:,} touched in all."
    write(text if options["give_up"] else f"{text} {_SAFE}")
