"""Remove old events of which nothing is owed, with their deliveries and attempts."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError

from outbox import actions
from outbox.conf import conf

from .common import count, operator

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the age."""
    parser.add_argument(
        "--older-than",
        type=_age,
        metavar="AGE",
        help='of all types, for example 30d, 12h or 90m; default: OUTBOX["RETENTION"]',
    )
    parser.add_argument(
        "--archive",
        metavar="FOLDER",
        help='where it is written to first; default: OUTBOX["ARCHIVE"]',
    )
    parser.add_argument("--dry-run", action="store_true", help="count what would be removed")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Prune, or count. Nothing to prune is no failure: a schedule calls this."""
    age: timedelta | None = options["older_than"]
    if age is None and not conf().RETENTION:
        raise CommandError('How old? Say --older-than AGE, or set OUTBOX["RETENTION"].')
    if options["dry_run"]:
        number = actions.countable(older_than=age)
        write(f"{count(number, 'event')} would be removed; nothing was changed.")
        return
    number = actions.prune(older_than=age, archive=options["archive"], by=operator())
    write(f"{count(number, 'event')} removed. What is still owed stays, however old.")


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9][0-9]{0,5})([dhm])", text)
    if not found:
        raise ArgumentTypeError(
            f"{text!r} is no age: give days, hours or minutes, as 30d, 12h, 90m"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
