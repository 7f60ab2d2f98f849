"""List every event of the installed apps: where it is made, what it carries, who hears it."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox.contracts.catalogue import CatalogueEntry, CatalogueField, catalogue


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the event or app to list."""
    parser.add_argument("name", nargs="?", default="", help="an event, or the app that makes it")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write an entry for each matching event."""
    name = options["name"]
    found = [entry for entry in catalogue() if not name or _matches(entry, name)]
    if not found:
        raise CommandError(
            f"No installed app declares {name}." if name else "No installed app declares an event."
        )
    write("\n\n".join(_entry(entry) for entry in found))


def _matches(entry: CatalogueEntry, name: str) -> bool:
    return name in (entry.name, entry.name.partition(".")[0])


def _entry(entry: CatalogueEntry) -> str:
    lines = [f"{entry.name}, version {entry.version}, key {entry.key}  {entry.place}"]
    lines += [line for line in entry.description.splitlines()[:1] if line]
    lines.append("carries " + ", ".join(_field(field) for field in entry.fields))
    lines += [f"heard by {handler.name}  {handler.place}" for handler in entry.handlers]
    if not entry.handlers:
        lines.append("heard by nobody")
    return "\n    ".join(lines)


def _field(field: CatalogueField) -> str:
    return f"{field.name}: {field.type}" + (" (optional)" if field.is_optional else "")
