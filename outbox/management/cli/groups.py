"""Show what is dead in groups of one cause, with the command that retries each."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from outbox.formatting import format_time
from outbox.monitor.groups import Group
from outbox.monitor.groups import groups as groups_now

from .common import count


def add_arguments(parser: ArgumentParser) -> None:
    """Declare --json."""
    parser.add_argument("--json", action="store_true", help="for programs: a JSON list")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write the groups, or the JSON."""
    found = groups_now()
    if options["json"]:
        rows = [{**asdict(one), "retry": one.retry} for one in found]
        write(json.dumps(rows, cls=DjangoJSONEncoder, indent=2))
        return
    for one in found:
        _write(one, write)
    if not found:
        write("Nothing is dead.")


def _write(one: Group, write: Callable[[str], object]) -> None:
    where = f" at {one.place}" if one.place else ""
    times = f"between {format_time(one.first)} and {format_time(one.last)}"
    write(f"{count(one.number, 'delivery', 'deliveries')} to {one.handler}: {one.cause}{where}")
    write(f"    {times}, for example {one.example}")
    if one.is_overtaken:
        write(f"    a retry runs them out of order; see manage.py outbox why {one.example}")
        write(f"    if the handler bears that: {one.retry}")
        write(f"    else: {one.discard}")
    else:
        write(f"    {one.retry}")
