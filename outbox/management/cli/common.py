"""Shared parts of the subcommands: their interface, the operator, lookups, tables and JSON."""

from __future__ import annotations

import getpass
import json
import os
import signal
import threading
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from django.core.management.base import CommandError
from django.core.management.color import color_style
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import npgettext

from outbox import databases
from outbox.models import Delivery, Event

#: Maximum of events of one key that a command reads.
MOST_EVENTS = 200

Options = Mapping[str, Any]
Write = Callable[[str], object]


class Subcommand(Protocol):
    """A subcommand; the first line of its docstring is its help."""

    __doc__: str | None

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare its arguments."""

    def run(self, options: Options, write: Write) -> None:
        """Run it; raise `CommandError` with one clear sentence if it fails."""


def operator() -> str:
    """Return the user that runs the command, for operations: "cli:ann"."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user may have no name
        return f"cli:uid-{os.getuid()}"


def count(number: int, noun: str, nouns: str = "") -> str:
    """Return "1 event", "2 events", "2 deliveries"; the catalogue has each with its number."""
    one, many = f"%(number)s {noun}", f"%(number)s {nouns or noun + 's'}"
    return npgettext("count", one, many, number) % {"number": f"{number:,}"}


def find_event(text: str) -> Event | None:
    """Return the event with this UUID, or None if the text is no UUID.

    Raises `CommandError` if there is no such event.
    """
    try:
        event_id = UUID(text)
    except ValueError:
        return None
    event = Event.objects.using(databases.alias()).filter(id=event_id).first()
    if event is None:
        raise CommandError(
            _("No event has the id or key %(event_id)s. It may have been pruned.")
            % {"event_id": event_id}
        )
    return event


def events_of_key(key: str) -> list[Event]:
    """Return the newest events of a key, up to `MOST_EVENTS`, the oldest of them first."""
    rows = Event.objects.using(databases.alias()).filter(key=key)
    return list(rows.order_by("-seq")[:MOST_EVENTS])[::-1]


def _events_meant(text: str) -> QuerySet[Event] | list[Event] | None:
    """Return all events of this key, or the one with this UUID; None if the text is neither.

    Raises `CommandError` if the text is a UUID and neither a key nor an event id.
    """
    if is_key(text):
        return Event.objects.using(databases.alias()).filter(key=text)
    event = find_event(text)
    return None if event is None else [event]


def is_key(text: str) -> bool:
    """Return whether an event has this key."""
    return Event.objects.using(databases.alias()).filter(key=text).exists()


def delivery_id(text: str) -> int:
    """Parse a delivery id; raise `CommandError` if the text is none."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise CommandError(
            _(
                "%(text)s is neither a delivery id (a number) nor an event id (a "
                "UUID), and no event has it as its key."
            )
            % {"text": text}
        )
    return int(text)


def find_deliveries(texts: Sequence[str]) -> set[int]:
    """Return the delivery ids for delivery ids, event UUIDs and keys.

    Raises `CommandError` with the first text that matches nothing.
    """
    found: set[int] = set()
    for text in texts:
        events = _events_meant(text)
        if events is not None:
            rows = Delivery.objects.using(databases.alias()).filter(event__in=events)
            found.update(rows.values_list("pk", flat=True))
        elif Delivery.objects.using(databases.alias()).filter(pk=delivery_id(text)).exists():
            found.add(int(text))
        else:
            raise CommandError(
                _("No delivery has the id %(text)s. It may have been pruned.") % {"text": text}
            )
    return found


def not_written(path: str | Path, error: OSError) -> str:
    """Return the error of a file or folder that cannot be written."""
    facts = {"path": error.filename or path, "strerror": error.strerror or error}
    return _("%(path)s cannot be written: %(strerror)s.") % facts


def add_json(parser: ArgumentParser) -> None:
    """Declare --json."""
    parser.add_argument("--json", action="store_true", help=_("print JSON, for programs"))


def write_json(value: object, write: Write) -> None:
    """Write a value as JSON."""
    write(json.dumps(value, cls=DjangoJSONEncoder, indent=2))


def red(text: str, options: Options) -> str:
    """Return a text in red if the terminal has colours; options and variables are Django's."""
    style = color_style(force_color=bool(options.get("force_color")))
    return text if options.get("no_color") else str(style.ERROR(text))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return an aligned table: texts to the left, numbers to the right."""
    cells = [list(map(str, row)) for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [all(isinstance(row[i], int) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines)


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; restore the signals' handlers afterwards."""
    stopping = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, lambda *_: stopping.set()) for one in signals]
    try:
        yield stopping
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)
