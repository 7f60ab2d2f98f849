"""Findings about days of partitioned tables that are old enough to be removed, and are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from django.db import ProgrammingError
from django.utils.translation import gettext as _

from outbox import clock
from outbox.formatting import format_time
from outbox.models import Operation
from outbox.partitions import closing
from outbox.partitions.catalogue import is_missing_table
from outbox.partitions.days import day_of
from outbox.partitions.emptying import MOST_EVENTS, TooManyStay
from outbox.partitions.past import Day, holders, past_days
from outbox.retention import horizons
from outbox.retention.staying import is_old, unfinished_in
from outbox.retention.whole_days import has_days

from .findings import Finding, warning

_PART = "partitions"
#: A removal takes minutes. After this time something holds it up.
_LONG = timedelta(hours=1)
#: Days that are examined. Of days with owed events each takes some milliseconds.
_MOST_DAYS = 10


def examine(*, using: str) -> Iterator[Finding]:
    """Examine the removal that is not finished, and days of which too many events are owed."""
    if not has_days(using=using):
        return
    days = past_days(using=using)
    operation = closing.removal(using=using)
    if operation is not None and operation.started_at < clock.now(using=using) - _LONG:
        yield _unfinished(operation, days, using=using)
    before = dict(horizons(using=using))
    old = [day for day in days if _is_so(partial(is_old, day, before, using=using))]
    for day in old[:_MOST_DAYS]:
        if _is_so(partial(_has_many_owed, day, using=using)):
            yield _owed(day)


def _has_many_owed(day: Day, *, using: str) -> bool:
    try:
        unfinished_in(day, using=using)
    except TooManyStay:
        return True
    return False


def _is_so(look: Callable[[], bool]) -> bool:
    """Return the answer about a day's partitions; False if another process has dropped them."""
    try:
        return look()
    except ProgrammingError as error:
        if not is_missing_table(error):
            raise
        return False


def _unfinished(operation: Operation, days: list[Day], *, using: str) -> Finding:
    pids: set[int] = set()
    for day in days:
        if day.low == operation.choice[closing.LOW]:
            pids.update(holders(day.events.name, using=using))
            pids.update(holders(day.deliveries.name, using=using))
    step = _("Run `manage.py outbox prune`, and read its log.")
    if pids:
        step = _("End the transactions that use it: those of the processes %(pids)s.") % {
            "pids": ", ".join(map(str, sorted(pids)))
        }
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
        step,
    )


def _owed(day: Day) -> Finding:
    choice = f"--until {day_of(day.high)}"
    if (first := day_of(day.low)) is not None:
        choice = f"--since {first} {choice}"
    return warning(
        _PART,
        _(
            "%(day)s cannot be removed at once: more than %(most)s of its events are owed. Its "
            "other events are pruned row by row."
        )
        % {"day": day.label, "most": f"{MOST_EVENTS:,}"},
        _("Retry or discard them, with %(choice)s. `manage.py outbox groups` shows the failures.")
        % {"choice": choice},
    )
