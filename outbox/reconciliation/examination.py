"""Reconciliation: examine every invariant of every installed app, on one snapshot."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db import connections, transaction
from django.db.models import Max, Q
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext as _

from outbox import clock, databases
from outbox.deliveries.outstanding import owed_keys
from outbox.models import Delivery, Event, Horizon

from . import Difference, Examination, Invariant, registry

logger = logging.getLogger("outbox.reconciliation")

#: Most differences that are kept of one invariant; the others are only counted.
MOST_KEPT = 50

_CHUNK = 500


@dataclass(kw_only=True)
class InvariantResult:
    """The result of one invariant.

    Attributes:
        invariant: the invariant.
        checked: the number of examined rows.
        differences: the number of violations; one more if the invariant raised an error.
        unsettled: the number of violations that an owed delivery may still correct.
        kept: the first differences; the error before them.
        kept_unsettled: the first unsettled differences.
        seconds: the duration.
    """

    invariant: Invariant
    checked: int = 0
    differences: int = 0
    unsettled: int = 0
    kept: list[Difference] = field(default_factory=list)
    kept_unsettled: list[Difference] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """The result of all invariants.

    Attributes:
        checked_at: the time of the snapshot.
        unsettled: the number of keys with an owed delivery or a waiting event at that time.
        findings: the result of each invariant, in the order of INSTALLED_APPS.
        seconds: the duration.
    """

    checked_at: datetime
    unsettled: int
    findings: Sequence[InvariantResult]
    seconds: float

    @property
    def differences(self) -> int:
        """The number of differences of all invariants."""
        return sum(one.differences for one in self.findings)

    @property
    def is_balanced(self) -> bool:
        """Whether there is no difference; unsettled ones do not count."""
        return self.differences == 0


def reconcile(*, thorough: bool = False, using: str | None = None) -> Reconciliation:
    """Examine every invariant and return the differences.

    It reads one snapshot, so a concurrent change is seen completely or not at all. Invariants that
    call an external system run last, with no transaction open. An invariant that raises an error is
    reported as a difference of its own, and the others are examined.

    Args:
        thorough: examine all rows; without it, an invariant may examine a sample.
        using: the outbox's database alias.

    Raises:
        django.db.Error: the snapshot was lost, for example with the connection.
    """
    using = using or databases.alias()
    autodiscover_modules("invariants")
    with databases.serving(using):  # invariants may call functions that read from `alias()`
        return _reconciled(thorough=thorough, using=using)


def _reconciled(*, thorough: bool, using: str) -> Reconciliation:
    began = time.monotonic()
    findings = [InvariantResult(invariant=one) for one in registry.values()]
    with snapshot(using=using):
        checked_at, unsettled = clock.now(using=using), _count_owed(using=using)
        horizon = Horizon.objects.using(using).aggregate(at=Max("emitted_before"))["at"]
        examination = Examination(thorough=thorough, horizon=horizon, using=using)
        for one in findings:
            if not one.invariant.outside:
                # A statement that fails would end the transaction of the others, too.
                _examine(one, replace(examination), within=transaction.atomic(using=using))
    for one in findings:
        if one.invariant.outside:
            _examine(one, replace(examination), within=nullcontext())
    return Reconciliation(
        checked_at=checked_at,
        unsettled=unsettled,
        findings=findings,
        seconds=time.monotonic() - began,
    )


def _examine(
    result: InvariantResult, examination: Examination, *, within: AbstractContextManager[object]
) -> None:
    """Examine an invariant. An error that it raises is a difference, and hides no other one."""
    began, chunk = time.monotonic(), list[Difference]()
    try:
        with within:
            for one in result.invariant.examine(examination):
                chunk.append(one)
                if len(chunk) == _CHUNK:
                    _sort(result, chunk, using=examination.using)
                    chunk.clear()
    except Exception as error:
        if connections[examination.using].needs_rollback:  # the snapshot is lost
            raise
        _note_error(result, error)
    _sort(result, chunk, using=examination.using)
    result.checked = examination.seen
    result.seconds = time.monotonic() - began


def _note_error(result: InvariantResult, error: Exception) -> None:
    """Add the error of an invariant to its differences, as the first of those that are kept."""
    logger.exception("The invariant %s could not be examined.", result.invariant.name)
    text = _(
        "It could not be examined: %(error)s. The log has the traceback. Correct the cause, and "
        "reconcile again."
    )
    result.differences += 1
    result.kept.insert(0, Difference(text % {"error": type(error).__name__}))
    del result.kept[MOST_KEPT:]


def _sort(result: InvariantResult, found: Sequence[Difference], *, using: str) -> None:
    """Count the differences and the unsettled ones, and keep the first of each."""
    waits_for = result.invariant.waits_for
    keys = {one.key for one in found}
    owed = owed_keys(keys, to=waits_for, using=using) if waits_for else set()
    for one in found:
        if one.key in owed:
            result.unsettled += 1
            _keep(result.kept_unsettled, one)
        else:
            result.differences += 1
            _keep(result.kept, one)


def _keep(kept: list[Difference], one: Difference) -> None:
    if len(kept) < MOST_KEPT:
        kept.append(one)


def _count_owed(*, using: str) -> int:
    """Count the keys with an owed delivery or an event that waits for fan-out."""
    owed = Delivery.objects.using(using).filter(state__in=Delivery.OWED).values("event")
    events = Event.objects.using(using).filter(Q(fanned_out_at=None) | Q(pk__in=owed))
    return events.values("key").distinct().count()


@contextmanager
def snapshot(*, using: str | None = None) -> Iterator[None]:
    """Make all reads in the block see the database as it is now, without blocking writers.

    PostgreSQL: REPEATABLE READ READ ONLY. SQLite: a deferred transaction, which in WAL mode reads
    beside the writer. Within a TestCase: the transaction of the test.

    Raises:
        RuntimeError: a transaction is open, which may have an older snapshot.
    """
    using = using or databases.alias()
    connection: Any = connections[using]
    if connection.in_atomic_block:
        with transaction.atomic(using=using, durable=True):
            yield
        return
    with _mode(connection, "DEFERRED"), transaction.atomic(using=using, durable=True):
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # The snapshot is taken by the first read.
            cursor.execute("SELECT count(*) FROM django_migrations")
        yield


@contextmanager
def _mode(connection: Any, mode: str) -> Iterator[None]:
    """Set the mode in which SQLite begins transactions; other databases ignore it."""
    connection.ensure_connection()
    before = getattr(connection, "transaction_mode", None)
    connection.transaction_mode = mode
    try:
        yield
    finally:
        connection.transaction_mode = before
