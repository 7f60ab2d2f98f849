"""What ends a command early: a database error, Ctrl-C, or output that is not read any more."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from django.core.management.base import CommandError, OutputWrapper
from django.db import Error, InterfaceError, OperationalError, ProgrammingError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox import databases
from outbox.deliveries.pauses import holder
from outbox.deliveries.transient_errors import (
    database_of,
    drop_broken_connection,
    is_reachable,
)
from outbox.formatting import one_line
from outbox.models import Operation, Subscription
from outbox.operations import next_step
from outbox.operations.progress import unfinished_of
from outbox.schema import first_unapplied

from .common import Write

#: Errors of a database that `explained` explains.
EXPLAINED = (OperationalError, InterfaceError, ProgrammingError)
#: Exit code after Ctrl-C, as a shell reports it.
INTERRUPTED = 130
#: Exit code when nobody reads the output any more (SIGPIPE), as a shell reports it.
UNREAD = 141

_AGAIN = gettext_lazy(
    "Then run the same command again; `manage.py outbox log` lists unfinished operations."
)


@contextmanager
def ending_unread(output: OutputWrapper) -> Iterator[Write]:
    """Yield the function that writes output; end the process once nobody reads it, as by `head`.

    The rest of the output is discarded, also what is still buffered. Source: the note on SIGPIPE in
    the documentation of Python's module `signal`.

    Raises:
        SystemExit: with `UNREAD`, from the function or at the end.
    """

    def write(text: str) -> None:
        try:
            output.write(text)
        except BrokenPipeError:
            _end_unread(output)

    try:
        yield write
    except BaseException:  # which ends the command with its own message and status
        try:
            output.flush()
        except BrokenPipeError:
            _discard(output)
        raise
    try:
        output.flush()
    except BrokenPipeError:
        _end_unread(output)


def _end_unread(output: OutputWrapper) -> NoReturn:
    _discard(output)
    raise SystemExit(UNREAD)


def _discard(output: OutputWrapper) -> None:
    """Discard what is buffered. Otherwise Python writes it at its end, and reports the error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, output.fileno())
    os.close(nowhere)


def explained(error: Error) -> str:
    """Return the database that failed, the cause and the next step; "" for an error of the code."""
    alias = database_of(error) or databases.alias()
    cause = one_line(str(error)) or type(error).__name__
    if not is_reachable(using=alias):
        return _(
            "The database %(alias)s cannot be reached, or is read-only: "
            "%(cause)s. Check that it runs and that DATABASES[%(alias2)s] in "
            "the settings is right. %(again)s"
        ) % {"alias": alias, "cause": cause, "alias2": repr(alias), "again": _AGAIN}
    if missing := first_unapplied(alias):
        return _(
            "The database %(alias)s lacks migrations of the outbox, from "
            "%(missing)s on: %(cause)s. Run `manage.py migrate --database "
            "%(alias)s`, or check that DATABASES[%(alias2)s] in the settings "
            "names the right database."
        ) % {"alias": alias, "missing": missing, "cause": cause, "alias2": repr(alias)}
    if isinstance(error, ProgrammingError):
        return ""
    return _(
        "The database %(alias)s is reachable, but refused a statement: "
        "%(cause)s. Check its locks and settings with `manage.py outbox "
        "doctor`. %(again)s"
    ) % {"alias": alias, "cause": cause, "again": _AGAIN}


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
        mine = unfinished_of(action, choice, using=databases.alias())
        raise interrupted(mine[-1] if mine else None) from None


def interrupted(operation: Operation | None) -> CommandError:
    """Return the error with the state of an interrupted operation; None: no operation."""
    if operation is None:
        text = _("Interrupted. No operation is left unfinished; see `manage.py outbox log`.")
        return CommandError(text, returncode=INTERRUPTED)
    number = operation.pk
    held = Subscription.objects.using(databases.alias()).filter(paused_by=holder(operation))
    pauses = "".join(
        (
            " "
            + _("%(handler)s stays paused until the operation is finished.") % {"handler": handler}
        )
        for handler in sorted(set(held.values_list("handler", flat=True)))
    )
    touched = ""
    if operation.expected:
        touched = _("; %(touched)s of %(expected)s touched") % {
            "touched": f"{operation.touched:,}",
            "expected": f"{operation.expected:,}",
        }
    return CommandError(
        _(
            "Interrupted: operation %(number)s (%(action)s) is not "
            "finished%(touched)s.%(pauses)s %(next_step)s"
        )
        % {
            "number": number,
            "action": operation.action,
            "touched": touched,
            "pauses": pauses,
            "next_step": next_step(operation),
        },
        returncode=INTERRUPTED,
    )
