"""Run an operation from the command line: dry run, reason, rate, progress and summary."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import timedelta

from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from outbox.formatting import span
from outbox.models import Operation
from outbox.operations import Choice, Preview, StillRunning, UnknownHandler

from .common import Options, Write, count, operator, table
from .errors import explained_interrupt

_BAR = 30
_LINE_EVERY_SECONDS = 10.0


def add_operation_options(parser: ArgumentParser, *, rate: float | None = None) -> None:
    """Declare --reason, --dry-run and, if `rate` is given, --rate with this default."""
    parser.add_argument("--reason", help=_("the reason, stored with the operation"))
    parser.add_argument("--dry-run", action="store_true", help=_("show the rows that would change"))
    if rate is not None:
        parser.add_argument(
            "--rate",
            type=_rate,
            default=rate,
            metavar="N",
            help=_("maximum per second (%(rate)s)") % {"rate": f"{rate:g}"},
        )


def reason_of(options: Options, *, required: bool = True) -> str:
    """Return the reason; if it is missing and required, prompt for it on a terminal.

    Raises `CommandError` if a required reason is still missing.
    """
    reason = (options.get("reason") or "").strip()
    if not reason and required and sys.stdin.isatty():
        reason = input(_("Reason:") + " ").strip()
    if not reason and required:
        raise CommandError(
            _("No reason given. Use --reason TEXT; it is stored with the operation.")
        )
    return reason


def write_preview(found: Preview, write: Write) -> None:
    """Write the counts and examples of a preview."""
    if found.counts:
        write(table(("HANDLER", "STATE OR EVENT", "NUMBER"), found.counts))
    for example in found.examples:
        write(_("for example %(example)s") % {"example": example})
    write(
        _("%(counted)s would change. Nothing was changed.")
        % {"counted": count(found.total, "delivery", "deliveries")}
    )


def carry_out(
    action: Callable[..., Operation],
    choice: Choice,
    options: Options,
    write: Write,
    *,
    done: str,
    nothing: str,
    needs_reason: bool = True,
) -> None:
    """Carry out an operation on deliveries, and write how many it changed.

    Raises `CommandError` if it was given up meanwhile, or, with the text `nothing`, if it changed
    none.
    """
    reason, report = reason_of(options, required=needs_reason), Progress(write)
    try:
        with explained_interrupt(action.__name__, choice.as_json()):
            operation = action(
                choice, by=operator(), reason=reason, rate=options["rate"], report=report
            )
    except (StillRunning, UnknownHandler) as error:
        raise CommandError(str(error)) from error
    refuse_given_up(operation)
    if not operation.touched:
        raise CommandError(nothing)
    write(f"{count(operation.touched, 'delivery', 'deliveries')} {done}. {summary(operation)}")


def refuse_given_up(operation: Operation) -> None:
    """Raise `CommandError` if a person has given up an operation on deliveries while it ran."""
    if operation.state == Operation.State.GIVEN_UP:
        raise CommandError(given_up(operation, count(operation.touched, "delivery", "deliveries")))


def given_up(operation: Operation, counted: str) -> str:
    """Return the error of an operation that a person has given up, after so many rows."""
    return _(
        "Operation %(number)d (%(action)s) was given up while it ran, after %(counted)s. The rest "
        "was not changed. See `manage.py outbox log`."
    ) % {"number": operation.pk, "action": operation.action, "counted": counted}


class Progress:
    """A `Report`: a bar on a terminal, otherwise a plain line every ten seconds."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._is_terminal = sys.stderr.isatty()
        self._began = self._reported = time.monotonic()

    def __call__(self, operation: Operation, waits_for: str) -> None:
        """Show the progress of the operation."""
        now = time.monotonic()
        waiting = _("; waiting: %(waits_for)s") % {"waits_for": waits_for} if waits_for else ""
        if self._is_terminal:
            eta = _eta(operation, now - self._began)
            sys.stderr.write(f"\r{_bar(operation)} {eta}{waiting}\033[K")
            if operation.state != Operation.State.RUNNING:
                sys.stderr.write("\n")
            sys.stderr.flush()
        elif now - self._reported >= _LINE_EVERY_SECONDS:
            self._reported = now
            self._write(
                _("%(touched)s of %(expected)s%(waiting)s")
                % {
                    "touched": f"{operation.touched:,}",
                    "expected": f"{operation.expected:,}",
                    "waiting": waiting,
                }
            )


def summary(operation: Operation) -> str:
    """Return a sentence with the id of the recorded operation."""
    return _("Recorded as operation %(pk)s; see `manage.py outbox log`.") % {"pk": operation.pk}


def _bar(operation: Operation) -> str:
    whole = max(operation.expected, operation.touched, 1)
    filled = _BAR * operation.touched // whole
    return f"[{'#' * filled}{'.' * (_BAR - filled)}] " + _("%(touched)s of %(whole)s") % {
        "touched": f"{operation.touched:,}",
        "whole": f"{whole:,}",
    }


def _eta(operation: Operation, seconds: float) -> str:
    left = operation.expected - operation.touched
    if left <= 0 or not operation.touched or not seconds:
        return ""
    return _("about %(timedelta)s left") % {
        "timedelta": span(timedelta(seconds=left * seconds / operation.touched))
    }


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e6:
        raise ArgumentTypeError(
            _("invalid rate %(text)s; give a number above 0") % {"text": repr(text)}
        )
    return rate
