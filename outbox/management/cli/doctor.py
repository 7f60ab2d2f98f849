"""Look at the running system: broker, settings, database, relay, beat, each queue, debts."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from outbox.doctor import ERROR, OK, Finding, examine

_MARKS = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare --json and the canaries' time."""
    parser.add_argument("--json", action="store_true", help="for programs: a JSON list")
    parser.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how long a canary may take through a queue (10)",
    )


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write the findings; end with status 1 where one is an error."""
    found = examine(timeout=options["timeout"])
    if options["json"]:
        write(json.dumps([asdict(one) for one in found], indent=2))
    else:
        for one in found:
            _write(one, write)
    if any(one.severity == ERROR for one in found):
        sys.exit(1)


def _write(one: Finding, write: Callable[[str], object]) -> None:
    write(f"{_MARKS[one.severity]}  {one.part}: {one.text}")
    if one.severity != OK:
        write(f"         {one.advice}")
