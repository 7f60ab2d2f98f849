"""Look at the running system: broker, settings, database, relay, beat, each queue, debts."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from django.core.management import CommandError

from outbox.doctor import ERROR, OK, Finding, examine, probe

_MARKS = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare --json, --timeout, --queue and --worker."""
    parser.add_argument("--json", action="store_true", help="for programs: a JSON list")
    parser.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how long a canary may take through a queue (10)",
    )
    parser.add_argument(
        "--queue",
        action="append",
        default=[],
        metavar="NAME",
        help="a worker's probe: look only whether this queue is consumed; may be repeated",
    )
    parser.add_argument(
        "--worker",
        default="",
        metavar="NAME",
        help="with --queue: this worker must live and consume it, such as inventory@host",
    )


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write the findings; exit with status 1 if one is an error."""
    found = _found(options)
    if options["json"]:
        write(json.dumps([asdict(one) for one in found], indent=2))
    else:
        for one in found:
            _write(one, write)
    if any(one.severity == ERROR for one in found):
        sys.exit(1)


def _found(options: Mapping[str, Any]) -> list[Finding]:
    queues, worker, timeout = options["queue"], options["worker"], options["timeout"]
    if worker and not queues:
        raise CommandError("--worker needs the --queue that it is to consume.")
    return probe(queues, worker=worker, timeout=timeout) if queues else examine(timeout=timeout)


def _write(one: Finding, write: Callable[[str], object]) -> None:
    write(f"{_MARKS[one.severity]}  {one.part}: {one.text}")
    if one.severity != OK:
        write(f"         {one.advice}")
