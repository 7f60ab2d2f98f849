"""Findings about days of partitioned tables that are old enough to be removed, and are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import TypeVar

from django.db import ProgrammingError
from django.utils.translation import gettext as _

from outbox import clock
from outbox.formatting import format_time
from outbox.models import Operation
from outbox.partitions import closing
from outbox.partitions.catalogue import is_missing_table
from outbox.partitions.days import day_of
from outbox.partitions.emptying import TooManyStay
from outbox.partitions.past import Day, holders, past_days
from outbox.retention import horizons
from outbox.retention.record import EMPTYING, STEP
from outbox.retention.staying import is_old, unfinished_in
from outbox.retention.whole_days import has_days

from .findings import Finding, warning

T = TypeVar("T")

_PART = "partitions"
#: A removal takes minutes. After this time something holds it up.
_LONG = timedelta(hours=1)
#: Days that are examined. Of days with owed events each takes some milliseconds.
_MOST_DAYS = 10


def examine(*, using: str) -> Iterator[Finding]:
    """Examine the removal that is not finished, and days of which too many rows have to stay."""
    if not has_days(using=using):
        return
    days = past_days(using=using)
    operation = closing.removal(using=using)
    if operation is not None and operation.started_at < clock.now(using=using) - _LONG:
        yield _unfinished(operation, days, using=using)
    before = dict(horizons(using=using))
    old = [day for day in days if _if_there(partial(is_old, day, before, using=using))]
    for day in old[:_MOST_DAYS]:
        if why := _if_there(partial(_why_many_stay, day, using=using)):
            yield _many_stay(day, why)


def _why_many_stay(day: Day, *, using: str) -> str:
    """Return why too many rows of a day have to stay, a part of a sentence; "": they do not."""
    try:
        unfinished_in(day, using=using)
    except TooManyStay as error:
        return str(error)
    return ""


def _if_there(look: Callable[[], T]) -> T | None:
    """Return the answer about a day's partitions; None if another process has dropped them."""
    try:
        return look()
    except ProgrammingError as error:
        if not is_missing_table(error):
            raise
        return None


def _unfinished(operation: Operation, days: list[Day], *, using: str) -> Finding:
    return warning(
        _PART,
        _(
            "The removal of %(day)s (operation %(number)d) began at %(at)s and is not finished. "
            "Its events cannot be replayed meanwhile."
        )
        % {
            "day": operation.choice["day"],
            "number": operation.pk,
            "at": format_time(operation.started_at),
        },
        _step(operation, days, using=using),
    )


def _step(operation: Operation, days: list[Day], *, using: str) -> str:
    """Return the next step. Only the emptying of a day needs other transactions to end."""
    pids: set[int] = set()
    for day in days if operation.choice[STEP] == EMPTYING else ():
        if day.low == operation.choice[closing.LOW]:
            pids.update(holders(day.events.name, using=using))
            pids.update(holders(day.deliveries.name, using=using))
    if pids:
        return _("End the transactions that use it: those of the processes %(pids)s.") % {
            "pids": ", ".join(map(str, sorted(pids)))
        }
    return _(
        "It has come to the step %(step)s. Run `manage.py outbox prune`, which has no time limit, "
        "and read its log."
    ) % {"step": operation.choice[STEP]}


def _many_stay(day: Day, why: str) -> Finding:
    choice = f"--until {day_of(day.high)}"
    if (first := day_of(day.low)) is not None:
        choice = f"--since {first} {choice}"
    return warning(
        _PART,
        _(
            "The partition of %(day)s cannot be removed as a whole: %(why)s. Its other events are "
            "pruned row by row."
        )
        % {"day": day.label, "why": why},
        _(
            "Retry or discard its owed deliveries, with %(choice)s. `manage.py outbox groups` "
            "shows the failures. An event also stays until its settlements are reported."
        )
        % {"choice": choice},
    )
