"""Carry out long operations in small steps, recorded, at a limited rate, resumable.

Each step is one transaction that locks the operation's row, changes a slice and moves the cursor.
So a killed operation continues at its cursor, and two processes that carry it out share the work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, Protocol

from django.db import connections, transaction
from django.utils.translation import gettext as _

from outbox import clock
from outbox.deliveries import failpoints
from outbox.deliveries.key_locks import lock_keys
from outbox.deliveries.statements import bound_transaction
from outbox.deliveries.transient_errors import retry_transient
from outbox.formatting import format_time
from outbox.models import Operation
from outbox.monitor.people import name_of
from outbox.retention.pace import Stopped
from outbox.transports.nudge import nudge_of

logger = logging.getLogger("outbox.operations")

#: Default rate, in rows a second.
RATE = 500.0
_SLICE = 200
_WAIT_SECONDS = 1.0
_BUSY_SECONDS = 0.2
#: Seconds between two heartbeats of an operation without steps.
_BEAT_SECONDS = 10.0
#: PostgreSQL ends a step that is idle for so long: its host may be down.
_IDLE_SECONDS = 60.0

State = Operation.State

#: Called after each step with the operation and the reason for waiting ("": it does not wait).
Report = Callable[[Operation, str], object]


class Touched(NamedTuple):
    """The result of a step.

    Attributes:
        number: the number of changed rows.
        cursor: the last key that is finished; None: another transaction has locked the first row.
    """

    number: int
    cursor: int | None


class Task(Protocol):
    """The part of a long operation that depends on its action."""

    def find(self, *, after: int, until: int, limit: int) -> Sequence[int]:
        """Return the keys of the next rows, in order. Called outside of the step's transaction."""

    def touch(self, pks: Sequence[int], operation: Operation) -> Touched:
        """Change those rows that are still eligible. Called in the step's transaction."""

    def finish(self, operation: Operation) -> None:
        """Make the final changes, in the transaction that finishes the operation."""

    def reason_to_wait(self) -> str:
        """Return the reason why the next step has to wait, or ""."""


class StillRunning(ValueError):
    """The same replay is not finished. A second one would replay its first part twice."""

    def __init__(self, operation: Operation) -> None:
        text = _(
            "The same replay is not finished: operation %(number)d, by %(by)s, last heartbeat "
            "%(seen)s. Finish it: `manage.py outbox continue %(number)d`. Or end it: `manage.py "
            "outbox continue %(number)d --give-up`. Then replay."
        )
        facts = {
            "number": operation.pk,
            "by": name_of(operation.by),
            "seen": format_time(operation.seen_at),
        }
        super().__init__(text % facts)


class GivenUp(Stopped):
    """An operation without steps ends before its end: a person has given it up.

    Attributes:
        operation: its record.
    """

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        text = _(
            "Operation %(number)d (%(action)s) was given up while it ran. See `manage.py outbox "
            "log`."
        )
        super().__init__(text % {"number": operation.pk, "action": operation.action})


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
    """Store a new operation.

    An unfinished operation of the same action and choice is given up: the new one starts from the
    first row and includes its rest. One whose confirmation is later continues, since the new one
    leaves out what has changed between the two.

    Raises:
        StillRunning: the same replay is not finished; it must not start again.
    """
    now = clock.now(using=using)
    with transaction.atomic(using=using):
        if action == Operation.Action.REPLAY:  # no other process begins one before the commit
            lock_keys(["outbox.replay"], connection=connections[using])
        for same in unfinished_of(action, choice, using=using):
            if action == Operation.Action.REPLAY:
                raise StillRunning(same)
            if not _is_later(same.choice, choice):
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
    """Give up the rest of an operation. A running one stops at its next step or heartbeat."""
    running = Operation.objects.using(using).filter(pk=operation.pk, state=State.RUNNING)
    running.update(state=State.GIVEN_UP, finished_at=clock.now(using=using))


def unfinished_of(action: str, choice: Mapping[str, Any], *, using: str) -> list[Operation]:
    """Return the unfinished operations of this action and choice, the oldest first.

    Two choices that differ only in the time of their confirmation (`as_of`) count as the same.
    """
    running = Operation.objects.using(using).filter(state=State.RUNNING, action=action)
    wanted = _without_time(choice)
    return [one for one in running.order_by("id") if _without_time(one.choice) == wanted]


def _without_time(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in choice.items() if name != "as_of"}


def _is_later(choice: Mapping[str, Any], than: Mapping[str, Any]) -> bool:
    """Return whether a choice has a later confirmation than another one. None is the latest."""
    if "as_of" not in than:
        return False
    if "as_of" not in choice:
        return True
    return datetime.fromisoformat(choice["as_of"]) > datetime.fromisoformat(than["as_of"])


def carry_out(
    operation: Operation, task: Task, *, report: Report | None = None, using: str
) -> Operation:
    """Carry out an operation to its end, no faster than its rate; return it."""
    began, before = time.monotonic(), operation.touched
    while operation.state == State.RUNNING:
        wait_while(task.reason_to_wait, operation, report=report, using=using)
        at = operation.cursor
        # One transaction, which begins at the cursor: so it may be repeated.
        retry_transient(partial(_step, operation, task, using=using), using=using)
        if operation.state == State.RUNNING and operation.cursor == at:
            # Not within the step: its lock of the subscriptions table delays relays.
            text = _(
                "another transaction has locked the next delivery, or its day is being removed"
            )
            _report(report, operation, text)
            time.sleep(_BUSY_SECONDS)
            continue
        _report(report, operation, "")
        if operation.state == State.RUNNING and operation.rate:
            ahead = (operation.touched - before) / operation.rate
            time.sleep(max(0.0, began + ahead - time.monotonic()))
    return operation


def wait_while(
    reason_to_wait: Callable[[], str], operation: Operation, *, report: Report | None, using: str
) -> None:
    """Wait while `reason_to_wait` returns a reason and the operation is running."""
    while operation.state == State.RUNNING and (waits_for := reason_to_wait()):
        _report(report, operation, waits_for)
        time.sleep(_WAIT_SECONDS)
        own = Operation.objects.using(using).filter(pk=operation.pk)
        own.filter(state=State.RUNNING).update(seen_at=clock.now(using=using))
        _copy(own.get(), operation)


@contextmanager
def recorded(
    action: str, choice: dict[str, Any], *, by: str, reason: str, using: str
) -> Iterator[Operation]:
    """Record an operation without steps. The block sets `touched`.

    A killed operation of the same action and choice is continued under its own row. One that is
    given up meanwhile stays so.
    """
    killed = unfinished_of(action, choice, using=using)
    start = partial(begin, action, choice, by=by, reason=reason, using=using)
    operation = killed[0] if killed else start()
    before = operation.touched
    try:
        yield operation
    except GivenUp:
        _end(operation, before, using=using)
        raise
    _end(operation, before, using=using)


def _end(operation: Operation, before: int, *, using: str) -> None:
    with transaction.atomic(using=using):
        # Another process may have continued it meanwhile, and have counted its own rows.
        same = Operation.objects.using(using).select_for_update().filter(pk=operation.pk).first()
        operation.touched += same.touched - before if same is not None else 0
        operation.expected = operation.touched
        if same is not None and same.state == State.GIVEN_UP:
            operation.state, operation.finished_at = same.state, same.finished_at
        else:
            _finish(operation, using=using)
        operation.save(using=using)


def heartbeat(operation: Operation, *, using: str) -> Callable[[], None]:
    """Return a function that stores at times that a process carries out a `recorded` operation.

    The function raises `GivenUp` once a person has given up the operation.
    """
    own = Operation.objects.using(using).filter(pk=operation.pk)
    seen_at = time.monotonic()

    def beat() -> None:
        nonlocal seen_at
        if time.monotonic() - seen_at >= _BEAT_SECONDS:
            running = own.filter(state=State.RUNNING).update(seen_at=clock.now(using=using))
            if not running and own.filter(state=State.GIVEN_UP).exists():
                logger.warning("Operation %d stops: it was given up.", operation.pk)
                raise GivenUp(operation)
            seen_at = time.monotonic()

    return beat


def _step(operation: Operation, task: Task, *, using: str) -> None:
    limit = int(max(1, min(_SLICE, operation.rate or _SLICE)))
    # Outside the transaction: a search may take long, and SQLite has one writer.
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
        transaction.on_commit(nudge_of(using), using=using, robust=True)
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


def _report(report: Report | None, operation: Operation, waits_for: str) -> None:
    if report is not None:
        report(operation, waits_for)
