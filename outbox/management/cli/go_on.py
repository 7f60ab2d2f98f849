"""Go on with an operation that was killed half-way, or give it up."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox import actions

from .acting import Progress
from .common import operator


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the operation."""
    parser.add_argument("number", type=int, metavar="NUMBER", help="see `manage.py outbox log`")
    parser.add_argument("--give-up", action="store_true", help="leave the rest of it undone")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Carry out the rest, or mark it."""
    number = options["number"]
    try:
        if options["give_up"]:
            done = actions.give_up(number, by=operator())
        else:
            done = actions.go_on(number, by=operator(), report=Progress(write))
    except (actions.NotRunning, actions.CannotBackfill) as error:
        raise CommandError(str(error)) from error
    write(f"Operation {number}, {done.action}, is {done.state}: {done.touched:,} touched in all.")
