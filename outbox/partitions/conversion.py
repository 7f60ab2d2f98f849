"""Convert the tables of events and deliveries into partitioned ones, while orders continue.

Each step commits. After an interruption, the next run continues with the first step that is not
done. Until the swap, the tables are as before, apart from three indexes and two checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from django.db import connections
from django.utils.translation import gettext as _

from outbox import clock
from outbox.conf import conf
from outbox.deliveries.key_locks import key_number

from . import preparation
from .ahead import DAYS_AHEAD, is_behind, keep_ahead, missing_days
from .catalogue import TABLES, is_partitioned, read
from .days import day_at, first_seq
from .refusal import CannotPartition, Refusal
from .refusals import missing_rights, refusals
from .swap import NotPrepared, swap

__all__ = ["CannotPartition", "Step", "convert", "steps"]

#: The advisory lock of a run.
_LOCK = key_number("conversion", kind=b"partitions")

#: Days after the present one that the first partition contains. Until then hosts need no new
#: partition, even if their clocks differ.
_DAYS_BEFORE = 2


@dataclass(frozen=True)
class Step:
    """A step of a conversion.

    Attributes:
        text: its purpose, a sentence.
        is_done: returns whether nothing is left of it.
        run: does it.
    """

    text: str
    is_done: Callable[[], bool]
    run: Callable[[], object]


def convert(*, using: str, report: Callable[[str], object] = lambda text: None) -> None:
    """Convert the tables of a database, or continue; create the partitions of the next days.

    No transaction may be open. Tables that are converted only get the partitions that they lack.

    Args:
        using: the outbox's database alias.
        report: called with the text of each step before it runs.

    Raises:
        CannotPartition: there is a reason against it.
    """
    with _alone(using):
        while True:
            try:
                _convert(using, report)
                return
            except NotPrepared:
                continue  # with the step that was undone


def _convert(using: str, report: Callable[[str], object]) -> None:
    for step in steps(using=using, report=report):
        if not step.is_done():
            report(step.text)
            step.run()


@contextmanager
def _alone(using: str) -> Iterator[None]:
    """Keep other runs of the command out of the block, by a lock of a connection of its own."""
    if connections[using].vendor != "postgresql":
        yield
        return
    connection = connections[using].copy()
    try:
        connection.set_autocommit(False)
        with connection.cursor() as cursor:
            # The build of an index waits for older snapshots, which this transaction must not have.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
            [is_alone] = cursor.fetchone()
            # The last one: a query with parameters of the server (`server_side_binding`) has a
            # snapshot until the next statement.
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        if not is_alone:
            raise CannotPartition([_other_run()])
        yield
    finally:
        connection.close()


def _other_run() -> Refusal:
    return Refusal(
        _("Another run of this command converts the tables."),
        _("Wait until it has ended. Then run this command again, to see that nothing is left."),
    )


def steps(*, using: str, report: Callable[[str], object] = lambda text: None) -> list[Step]:
    """Return the steps of a conversion, also those that are done.

    Args:
        using: the outbox's database alias.
        report: called by a step with the transactions that it waits for.

    Raises:
        CannotPartition: there is a reason against the conversion.
    """
    today = day_at(clock.now(using=using))
    ahead = Step(
        _("Create the partitions up to %(days)s days ahead, and number events by the present day.")
        % {"days": DAYS_AHEAD},
        lambda: not (missing_days(today, using=using) or is_behind(today, using=using)),
        lambda: keep_ahead(using=using),
    )
    if is_partitioned(using=using) and conf().PARTITION:
        # Without these, `keep_ahead` would create nothing, and the command would end as if it had.
        if reasons := missing_rights(using=using):
            raise CannotPartition(reasons)
        return [_analysed(using), ahead]
    if reasons := refusals(using=using):
        raise CannotPartition(reasons)
    high = first_seq(today + timedelta(days=_DAYS_BEFORE))
    found = [_build(index, using) for index in preparation.INDEXES]
    found += [_check(table, high, using, report) for table in TABLES]
    replaced = Step(
        _("Replace the tables by partitioned ones, in one short transaction."),
        lambda: is_partitioned(using=using),
        lambda: swap(high, using=using, report=report),
    )
    return [*found, replaced, _analysed(using), ahead]


def _analysed(using: str) -> Step:
    return Step(
        _("Analyse both tables: PostgreSQL analyses only partitions by itself."),
        lambda: all(read(_IS_ANALYSED, [table], using=using) for table in TABLES),
        partial(_analyse, using),
    )


def _analyse(using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(f"ANALYZE {', '.join(TABLES)}")


def _build(index: preparation.Prepared, using: str) -> Step:
    return Step(
        _("Build the index %(name)s of %(table)s (%(columns)s), beside writes.")
        % {"name": index.name, "table": index.table, "columns": index.columns},
        partial(preparation.is_built, index, using=using),
        partial(preparation.build, index, using=using),
    )


def _check(table: str, high: int, using: str, report: Callable[[str], object]) -> Step:
    return Step(
        _("Check that all numbers of %(table)s are below %(high)s, beside writes.")
        % {"table": table, "high": high},
        partial(preparation.is_checked, table, high, using=using),
        partial(preparation.check, table, high, using=using, report=report),
    )


_IS_ANALYSED = """
SELECT 1 FROM pg_class WHERE oid = to_regclass(%s) AND relkind = 'p' AND reltuples >= 0"""
