"""How a long action is carried out: in small steps, recorded, at a bounded rate, resumable.

Each step is one transaction that locks the operation's row, touches a slice and moves the cursor.
So what is killed goes on where it was, and two that carry out the same operation share its work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

from django.db import transaction
from django.utils.translation import gettext as _

from outbox import clock, nudge
from outbox.deliveries import failpoints
from outbox.deliveries.statements import bound_transaction
from outbox.formatting import format_time
from outbox.models import Operation

logger = logging.getLogger("outbox.operations")

#: Most rows in a second, where nobody says otherwise.
RATE = 500.0
_SLICE = 200
_WAIT_SECONDS = 1.0
_BUSY_SECONDS = 0.2
#: A step whose process does nothing for so long is ended by PostgreSQL: its host may be gone.
_IDLE_SECONDS = 60.0

State = Operation.State

#: Is told after each step how far the operation is, and what it waits for ("": nothing).
Report = Callable[[Operation, str], object]


class Touched(NamedTuple):
    """What a step has done.

    Attributes:
        number: how many rows it has changed.
        cursor: the last key that need not be looked at again; None: another transaction has locked
            the first row.
    """

    number: int
    cursor: int | None


class Task(Protocol):
    """The part of a long action that differs."""

    def find(self, *, after: int, until: int, limit: int) -> Sequence[int]:
        """Return the next rows' keys, in order; read outside of the step's transaction."""

    def touch(self, pks: Sequence[int], operation: Operation) -> Touched:
        """Change those of them that still fit, within the step."""

    def finish(self, operation: Operation) -> None:
        """Change what the end of the operation changes, in the transaction that finishes it."""

    def hindrance(self) -> str:
        """Say what the next step has to wait for, or ""."""


class StillRunning(ValueError):
    """The same replay is not finished. To begin another one would replay its first part twice."""

    def __init__(self, operation: Operation) -> None:
        text = _(
            "Operation %(number)d, by %(by)s, replays the same choice and is not finished (last "
            "sign of life %(seen)s). Finish it by `manage.py outbox go-on %(number)d`, or end it "
            "by `manage.py outbox go-on %(number)d --give-up`. Then replay."
        )
        seen = format_time(operation.seen_at)
        super().__init__(text % {"number": operation.pk, "by": operation.by, "seen": seen})


def begin(
    action: str,
    choice: dict[str, Any],
    *,
    by: str,
    reason: str,
    expected: int = 0,
    until: int = 0,
    rate: float | None = None,
    using: str,
) -> Operation:
    """Record that an action begins.

    An operation of the same action and choice that is not finished is given up, as the new one
    starts again from the first row and covers it.

    Raises:
        StillRunning: it is a replay, which must not start again.
    """
    now = clock.now(using=using)
    with transaction.atomic(using=using):
        for same in _unfinished(action, choice, using=using):
            if action == Operation.Action.REPLAY:
                raise StillRunning(same)
            give_up(same, using=using)
        return Operation.objects.using(using).create(
            action=action,
            choice=choice,
            by=by[:150],
            reason=reason,
            started_at=now,
            seen_at=now,
            expected=expected,
            until=until,
            rate=rate,
        )


def give_up(operation: Operation, *, using: str) -> None:
    """Leave the rest of an operation undone; one that is under way stops at its next step."""
    running = Operation.objects.using(using).filter(pk=operation.pk, state=State.RUNNING)
    running.update(state=State.GIVEN_UP, finished_at=clock.now(using=using))


def _unfinished(action: str, choice: dict[str, Any], *, using: str) -> list[Operation]:
    running = Operation.objects.using(using).filter(state=State.RUNNING, action=action)
    return [one for one in running.order_by("id") if one.choice == choice]


def carry_out(
    operation: Operation, task: Task, *, report: Report | None = None, using: str
) -> Operation:
    """Go on with an operation until it is finished, no faster than its rate; return it."""
    began, before = time.monotonic(), operation.touched
    while operation.state == State.RUNNING:
        wait_while(task.hindrance, operation, report=report, using=using)
        at = operation.cursor
        _step(operation, task, using=using)
        if operation.state == State.RUNNING and operation.cursor == at:
            # Not within the step: it keeps relays from the table of subscriptions.
            _say(report, operation, _("another transaction has locked the next delivery"))
            time.sleep(_BUSY_SECONDS)
            continue
        _say(report, operation, "")
        if operation.state == State.RUNNING and operation.rate:
            ahead = (operation.touched - before) / operation.rate
            time.sleep(max(0.0, began + ahead - time.monotonic()))
    return operation


def wait_while(
    hindrance: Callable[[], str], operation: Operation, *, report: Report | None, using: str
) -> None:
    """Wait while there is a hindrance, and the operation is not given up."""
    while operation.state == State.RUNNING and (waits_for := hindrance()):
        _say(report, operation, waits_for)
        time.sleep(_WAIT_SECONDS)
        mine = Operation.objects.using(using).filter(pk=operation.pk)
        mine.filter(state=State.RUNNING).update(seen_at=clock.now(using=using))
        _copy(mine.get(), operation)


@contextmanager
def recorded(
    action: str, choice: dict[str, Any], *, by: str, reason: str, using: str
) -> Iterator[Operation]:
    """Record an action that needs no steps; the block says what it touched.

    One that was killed, and does all of it again now, keeps its record.
    """
    killed = _unfinished(action, choice, using=using)
    begun = partial(begin, action, choice, by=by, reason=reason, using=using)
    operation = killed[0] if killed else begun()
    yield operation
    operation.expected = operation.touched
    _finish(operation, using=using)
    operation.save(using=using)


def _step(operation: Operation, task: Task, *, using: str) -> None:
    limit = int(max(1, min(_SLICE, operation.rate or _SLICE)))
    # Read first: a search may take long, and SQLite has one writer.
    found = task.find(after=operation.cursor, until=operation.until, limit=limit)
    with transaction.atomic(using=using):
        bound_transaction(_IDLE_SECONDS, using=using)
        row = Operation.objects.using(using).select_for_update().get(pk=operation.pk)
        if row.state == State.RUNNING and row.cursor == operation.cursor:
            _advance(row, task, found, using=using)
            failpoints.reach(failpoints.IN_STEP)
    _copy(row, operation)
    failpoints.reach(failpoints.AFTER_STEP)


def _advance(row: Operation, task: Task, found: Sequence[int], *, using: str) -> None:
    if found:
        done = task.touch(found, row)
        row.touched += done.number
        row.cursor = row.cursor if done.cursor is None else done.cursor
        row.seen_at = clock.now(using=using)
        transaction.on_commit(nudge.poke, using=using, robust=True)
    else:
        task.finish(row)
        _finish(row, using=using)
    row.save(using=using)


def _finish(row: Operation, *, using: str) -> None:
    row.state = State.FINISHED
    row.finished_at = row.seen_at = clock.now(using=using)


def _copy(row: Operation, operation: Operation) -> None:
    for field in row._meta.concrete_fields:
        setattr(operation, field.attname, getattr(row, field.attname))


def _say(report: Report | None, operation: Operation, waits_for: str) -> None:
    if report is not None:
        report(operation, waits_for)
