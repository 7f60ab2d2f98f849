"""Remove old events of which nothing is owed, with their deliveries and attempts."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError

from outbox import operations
from outbox.conf import conf

from .acting import reason_of
from .choosing import age
from .common import count, operator


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the age, the archive, the reason and --dry-run."""
    parser.add_argument(
        "--older-than",
        type=age,
        metavar="AGE",
        help='of all types, for example 30d, 12h or 90m; default: OUTBOX["RETENTION"]',
    )
    parser.add_argument(
        "--archive",
        metavar="FOLDER",
        help='where it is written to first; default: OUTBOX["ARCHIVE"]',
    )
    parser.add_argument("--reason", help="why, for the log")
    parser.add_argument("--dry-run", action="store_true", help="count what would be removed")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Prune, or count. Nothing to prune is no failure, since schedules call this."""
    how_old: timedelta | None = options["older_than"]
    if how_old is None and not conf().RETENTION:
        raise CommandError('How old? Say --older-than AGE, or set OUTBOX["RETENTION"].')
    if options["dry_run"]:
        number = operations.countable(older_than=how_old)
        write(f"{count(number, 'event')} would be removed; nothing was changed.")
        return
    number = operations.prune(
        older_than=how_old,
        archive=options["archive"],
        by=operator(),
        reason=reason_of(options, required=False),
    )
    write(f"{count(number, 'event')} removed. What is still owed stays, however old.")
