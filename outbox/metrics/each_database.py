"""The metrics of all databases, which are read at the same time, each within a time limit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from django.db import Error

from outbox import databases
from outbox.counting import counters
from outbox.deliveries.transient_errors import drop_broken_connection

from .asking import ask_each
from .families import Family, families_of, of_queues_alone, up

logger = logging.getLogger("outbox.metrics")

#: Returns further families, for example the project's own.
Source = Callable[[], Iterable[Family]]
#: Seconds for the answers of all databases. Prometheus ends a scrape after ten seconds.
SECONDS = 5.0
#: In place of a database: the project's own families.
_MORE = ""


def families(*, using: str | None = None, only: Collection[str] = ()) -> list[Family]:
    """Return all metric families of the outbox.

    The number of queries does not depend on the number of handlers. Their cost grows with the
    number of owed deliveries, not with history.

    Args:
        using: the outbox's database alias.
        only: names of families, without "_total"; empty: all. The families of queues alone take
            two bounded queries, so an autoscaler can request them often.
    """
    if using is None and len(databases.listed()) > 1:
        return of_each(only)
    return families_of(using or databases.alias(), only)


def of_each(only: Collection[str], *, more: Source | None = None) -> list[Family]:
    """Return the families of all databases, and those of `more`.

    All are read at the same time, in threads. The first label of the outbox's own is the database.
    A database that cannot be read in time has no other series than `outbox_database_up`.

    Args:
        only: names of families, without "_total"; empty: all.
        more: returns further families. They are left out if it does not return in time.
    """
    listed = databases.listed()
    questions: dict[str, Callable[[], list[Family]]]
    questions = {using: partial(_readable, using, only) for using in listed}
    if more is not None:
        questions[_MORE] = partial(_of_project, more, only)
    answers = ask_each(questions, seconds=SECONDS)
    for name in questions.keys() - answers.keys():
        _log_missing(name, f"no answer within {SECONDS:g} s")
    found = {using: answers.get(using, _down(only)) for using in listed}
    return [*_merged(found), *answers.get(_MORE, ())]


def _merged(found: Mapping[str, Sequence[Family]]) -> list[Family]:
    """Return each family once, with the database as the first label of its series."""
    merged: dict[str, Family] = {}
    for using, some in found.items():
        for one in some:
            family = Family(one.name, one.kind, one.help, ("database", *one.labels))
            whole = merged.setdefault(one.name, family)
            whole.samples += [((using, *labels), value) for labels, value in one.samples]
            whole.buckets += [((using, *labels), few, total) for labels, few, total in one.buckets]
    return list(merged.values())


def _of_project(more: Source, only: Collection[str]) -> list[Family]:
    """Return the project's own families; none if a database fails."""
    try:
        return [one for one in more() if not only or one.name in only]
    except Error as error:
        _log_missing(_MORE, error)
        return []


def _readable(using: str, only: Collection[str]) -> list[Family]:
    """Return the families of a database; only that it is down if it cannot be read."""
    try:
        with databases.working_on(using):
            if not of_queues_alone(only):
                _flush(using)
            return families_of(using, only)
    except Error as error:
        _log_missing(using, error)
        drop_broken_connection(using=using)
        return _down(only)


def _flush(using: str) -> None:
    """Store this process's counts. A database that takes none now may be read all the same."""
    try:
        counters.flush(using=using)
    except Error as error:
        logger.warning("Counts for metrics are not stored yet in %s: %s", using, error)
        drop_broken_connection(using=using)


def _log_missing(name: str, reason: object) -> None:
    if name == _MORE:
        logger.warning("The metrics of the project itself cannot be read: %s", reason)
    else:
        logger.warning("The metrics of the database %s cannot be read: %s", name, reason)


def _down(only: Collection[str]) -> list[Family]:
    down = up(0)
    return [down] if not only or down.name in only else []
