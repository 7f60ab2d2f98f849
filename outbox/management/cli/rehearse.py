"""Read everything that is owed with this code, and list what would fail or be orphaned."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox.contracts.rehearsal import Problem, Rehearsal, rehearse

from .common import count


def add_arguments(parser: ArgumentParser) -> None:
    """Declare nothing: it always reads all owed rows."""


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Rehearse; fail if this code could not handle an owed row."""
    found = rehearse(progress=_progress if sys.stderr.isatty() else None)
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    for problem, number in found.problems.items():
        write(_problem(found, problem, number))
    for queue, handlers in found.unread_queues.items():
        write(
            f"queue {queue}: no handler of this code works on it, but {', '.join(handlers)} may "
            "have messages there until migrate; they are sent again when their lease has passed"
        )
    if found.problems:
        raise CommandError(
            f"{count(sum(found.problems.values()), 'problem')} in {found.read:,} owed rows. "
            "Nothing was changed."
        )
    write(f"{count(found.read, 'owed row')} read; this code can read them all.")


def _problem(found: Rehearsal, problem: Problem, number: int) -> str:
    examples = ", ".join(found.examples[problem])
    return (
        f"{number:,} x {problem.handler}, {problem.event} version {problem.version}: "
        f"{problem.reason} (for example {examples})"
    )


def _progress(read: int) -> None:
    sys.stderr.write(f"\r{read:,} owed rows read")
    sys.stderr.flush()
