"""Reconcile the books: examine every invariant of every installed app, on one snapshot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice

from django.db.models import Max, Q
from django.utils.module_loading import autodiscover_modules

from outbox import clock, databases
from outbox.deliveries.outstanding import owed_keys
from outbox.models import Delivery, Event, Horizon

from . import Difference, Examination, Invariant, registry
from .snapshot import snapshot

#: Most differences of one invariant that are kept; the others are counted.
MOST_KEPT = 50

_CHUNK = 500


@dataclass(kw_only=True)
class Finding:
    """What came of one invariant.

    Attributes:
        invariant: which one.
        checked: how many rows were looked at.
        differences: how many things do not hold.
        unsettled: how many do not hold yet, and something is owed that may put them right.
        kept: the first of the differences.
        kept_unsettled: the first of what is unsettled.
        seconds: how long it took.
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
    """What came of all invariants.

    Attributes:
        checked_at: the moment of the snapshot.
        unsettled: about how many keys something was owed then.
        findings: one for each invariant, in the order of INSTALLED_APPS.
        seconds: how long it took.
    """

    checked_at: datetime
    unsettled: int
    findings: Sequence[Finding]
    seconds: float

    @property
    def differences(self) -> int:
        """How many things differ."""
        return sum(one.differences for one in self.findings)

    @property
    def is_balanced(self) -> bool:
        """Whether nothing differs; what is unsettled is no difference."""
        return self.differences == 0


def reconcile(*, thorough: bool = False, using: str | None = None) -> Reconciliation:
    """Examine every invariant, and say what differs.

    Reads one snapshot, so that what is moving meanwhile is seen before its move or after it. The
    invariants that call outside come last, with no transaction open.

    Args:
        thorough: look at all there is, where only a part is looked at by default.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    autodiscover_modules("invariants")
    began = time.monotonic()
    findings = [Finding(invariant=one) for one in registry.values()]
    with snapshot(using=using):
        checked_at, unsettled = clock.now(using=using), _count_owed(using=using)
        horizon = Horizon.objects.using(using).aggregate(at=Max("emitted_before"))["at"]
        examination = Examination(thorough=thorough, horizon=horizon, using=using)
        for one in findings:
            if not one.invariant.outside:
                _examine(one, replace(examination))
    for one in findings:
        if one.invariant.outside:
            _examine(one, replace(examination))
    return Reconciliation(
        checked_at=checked_at,
        unsettled=unsettled,
        findings=findings,
        seconds=time.monotonic() - began,
    )


def _examine(finding: Finding, examination: Examination) -> None:
    began = time.monotonic()
    found = finding.invariant.examine(examination)
    while chunk := list(islice(found, _CHUNK)):
        _sort(finding, chunk, using=examination.using)
    finding.checked = examination.seen
    finding.seconds = time.monotonic() - began


def _sort(finding: Finding, found: Sequence[Difference], *, using: str) -> None:
    """Tell what is wrong from what is not done yet."""
    waits_for = finding.invariant.waits_for
    keys = {one.key for one in found}
    owed = owed_keys(keys, to=waits_for, using=using) if waits_for else set()
    for one in found:
        if one.key in owed:
            finding.unsettled += 1
            _keep(finding.kept_unsettled, one)
        else:
            finding.differences += 1
            _keep(finding.kept, one)


def _keep(kept: list[Difference], one: Difference) -> None:
    if len(kept) < MOST_KEPT:
        kept.append(one)


def _count_owed(*, using: str) -> int:
    """Count the keys about which something is owed; what is settled is not looked at."""
    owed = Delivery.objects.using(using).filter(state__in=Delivery.OWED).values("event")
    events = Event.objects.using(using).filter(Q(fanned_out_at=None) | Q(pk__in=owed))
    return events.values("key").distinct().count()
