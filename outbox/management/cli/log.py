"""List what people did to the outbox: which action, on what, who, why, and how far it came."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.forms.models import model_to_dict

from outbox.formatting import format_time, one_line
from outbox.models import Operation
from outbox.operations import described

from .common import table

_HEAD = ("NUMBER", "STARTED", "BY", "ACTION", "TOUCHED", "STATE", "CHOICE", "REASON")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare --last and --json."""
    parser.add_argument("--last", type=int, default=20, metavar="N", help="how many (20)")
    parser.add_argument("--json", action="store_true", help="for programs: a JSON list")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write the latest operations, the newest last."""
    newest = Operation.objects.order_by("-id")[: max(0, options["last"])]
    rows = list(newest)[::-1]
    if options["json"]:
        found = [{**model_to_dict(row), "id": row.pk} for row in rows]
        write(json.dumps(found, cls=DjangoJSONEncoder, indent=2))
    elif rows:
        write(table(_HEAD, [_row(row) for row in rows]))
    else:
        write("Nobody has done anything yet.")


def _row(row: Operation) -> tuple[object, ...]:
    return (
        row.pk,
        format_time(row.started_at),
        row.by,
        row.action,
        row.touched,
        row.state.replace("_", " "),
        described(row.choice),
        one_line(row.reason) or "-",
    )
