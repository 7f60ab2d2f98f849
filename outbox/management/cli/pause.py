"""Pause a handler: what it is owed is parked, and delays no other handler."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox import actions

from .common import operator


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the handler and the reason, which whoever finds it paused will want to know."""
    parser.add_argument("handler", metavar="HANDLER", help="its pinned name: app.function")
    parser.add_argument("--reason", required=True, help="why, for whoever finds it paused")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Pause it."""
    handler = options["handler"]
    try:
        changed = actions.pause(handler, by=operator(), reason=options["reason"])
    except actions.UnknownHandler as error:
        raise CommandError(str(error)) from error
    if not changed:
        write(f"{handler} was paused already; the earlier reason stays.")
        return
    write(f"{handler} is paused: `manage.py outbox resume {handler}` lets it go on.")
