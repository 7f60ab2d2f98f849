"""Resume a paused handler: what was parked is sent, the oldest first."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox import actions

from .common import operator


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the handler."""
    parser.add_argument("handler", metavar="HANDLER", help="its pinned name: app.function")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Resume it."""
    handler = options["handler"]
    try:
        changed = actions.resume(handler, by=operator())
    except actions.UnknownHandler as error:
        raise CommandError(str(error)) from error
    write(f"{handler} {'runs again' if changed else 'was not paused'}.")
