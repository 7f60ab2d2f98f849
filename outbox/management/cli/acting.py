"""Shared parts of the operating subcommands: dry run, reason, rate, progress and summary."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError

from outbox import databases
from outbox.deliveries.pauses import holder
from outbox.deliveries.transient_errors import drop_broken_connection
from outbox.formatting import span
from outbox.models import Operation, Subscription
from outbox.operations import Choice, Preview, StillRunning, next_step

from .common import INTERRUPTED, count, operator, table

Write = Callable[[str], object]

_BAR = 30
_LINE_EVERY_SECONDS = 10.0


def add_acting(parser: ArgumentParser, *, rate: float | None = None) -> None:
    """Declare --reason, --dry-run and, if `rate` is given, --rate with this default."""
    parser.add_argument("--reason", help="why, for the log and for whoever wonders")
    parser.add_argument("--dry-run", action="store_true", help="say what it would touch")
    if rate is not None:
        parser.add_argument(
            "--rate", type=_rate, default=rate, metavar="N", help=f"most in a second ({rate:g})"
        )


def reason_of(options: Mapping[str, Any], *, required: bool = True) -> str:
    """Return the reason; if it is missing and required, prompt for it on a terminal.

    Raises `CommandError` if a required reason is still missing.
    """
    reason = (options.get("reason") or "").strip()
    if not reason and required and sys.stdin.isatty():
        reason = input("Why? ").strip()
    if not reason and required:
        raise CommandError("Say why: --reason TEXT. It is kept with what was done.")
    return reason


def write_preview(found: Preview, write: Write, *, noun: str = "delivery") -> None:
    """Write the counts and examples of a preview."""
    nouns = {"delivery": "deliveries"}.get(noun, "")
    if found.counts:
        write(table(("HANDLER", "WHAT", "NUMBER"), found.counts))
    for example in found.examples:
        write(f"for example {example}")
    write(f"{count(found.total, noun, nouns)} would be touched; nothing was changed.")


def act(
    action: Callable[..., Operation],
    choice: Choice,
    options: Mapping[str, Any],
    write: Write,
    *,
    did: str,
    nothing: str,
    needs_reason: bool = True,
) -> None:
    """Carry out an action on deliveries, and write how many it affected.

    Raises `CommandError` with the text `nothing` if it affected none.
    """
    reason, report = reason_of(options, required=needs_reason), Progress(write)
    try:
        with explained_interrupt(action.__name__, choice.as_json()):
            done = action(choice, by=operator(), reason=reason, rate=options["rate"], report=report)
    except StillRunning as error:
        raise CommandError(str(error)) from error
    if not done.touched:
        raise CommandError(nothing)
    write(f"{count(done.touched, 'delivery', 'deliveries')} {did}. {summary(done)}")


@contextmanager
def explained_interrupt(action: str, choice: Mapping[str, Any]) -> Iterator[None]:
    """On Ctrl-C, raise an error with the unfinished operation and how to finish or end it.

    Args:
        action: a value of `Operation.Action`.
        choice: the choice as stored in the operation.

    Raises:
        CommandError: Ctrl-C was pressed.
    """
    try:
        yield
    except KeyboardInterrupt:
        drop_broken_connection(using=databases.alias())  # Ctrl-C may have interrupted a statement
        running = Operation.objects.using(databases.alias()).filter(
            action=action, state=Operation.State.RUNNING
        )
        mine = [row for row in running.order_by("id") if row.choice == choice]
        raise interrupted(mine[-1] if mine else None) from None


def interrupted(operation: Operation | None) -> CommandError:
    """Return the error with the state of an interrupted operation; None: no operation."""
    if operation is None:
        text = "Interrupted. No operation is unfinished because of that: `manage.py outbox log`."
        return CommandError(text, returncode=INTERRUPTED)
    number = operation.pk
    held = Subscription.objects.using(databases.alias()).filter(paused_by=holder(operation))
    pauses = "".join(
        f" {handler} stays paused until it is."
        for handler in sorted(set(held.values_list("handler", flat=True)))
    )
    touched = ""
    if operation.expected:
        touched = f"; {operation.touched:,} of {operation.expected:,} touched"
    return CommandError(
        f"Interrupted: operation {number}, {operation.action}, is not finished{touched}.{pauses} "
        f"{next_step(operation)}",
        returncode=INTERRUPTED,
    )


class Progress:
    """A `Report`: a bar on a terminal, otherwise a plain line every ten seconds."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._is_terminal = sys.stderr.isatty()
        self._began = self._reported = time.monotonic()

    def __call__(self, operation: Operation, waits_for: str) -> None:
        """Show the progress of the operation."""
        now = time.monotonic()
        if self._is_terminal:
            sys.stderr.write(f"\r{_bar(operation)} {_eta(operation, now - self._began)}")
            sys.stderr.write(f" waits: {waits_for}\033[K" if waits_for else "\033[K")
            if operation.state != Operation.State.RUNNING:
                sys.stderr.write("\n")
            sys.stderr.flush()
        elif now - self._reported >= _LINE_EVERY_SECONDS:
            self._reported = now
            waiting = f"; waits: {waits_for}" if waits_for else ""
            self._write(f"{operation.touched:,} of {operation.expected:,}{waiting}")


def summary(operation: Operation) -> str:
    """Return a sentence with the id of the recorded operation."""
    return f"Recorded as operation {operation.pk}: `manage.py outbox log`."


def _bar(operation: Operation) -> str:
    whole = max(operation.expected, operation.touched, 1)
    filled = _BAR * operation.touched // whole
    return f"[{'#' * filled}{'.' * (_BAR - filled)}] {operation.touched:,} of {whole:,}"


def _eta(operation: Operation, seconds: float) -> str:
    left = operation.expected - operation.touched
    if left <= 0 or not operation.touched or not seconds:
        return ""
    return f"about {span(timedelta(seconds=left * seconds / operation.touched))} left"


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e6:
        raise ArgumentTypeError(f"{text!r} is no rate: give a number above 0")
    return rate
