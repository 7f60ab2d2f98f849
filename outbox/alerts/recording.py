"""Store the findings of a check: open, update and resolve alerts, and create due notices."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from outbox.models import Alert, AlertNotice
from outbox.privacy.masking import masked_patterns

from .configuration import LAG, AlertsConfig
from .findings import Findings, Problem

#: An alert is resolved if checks have not found its problem for so long. So a problem that comes
#: and goes opens one alert.
RESOLVED_AFTER = timedelta(seconds=60)
#: Resolved alerts are kept for so long.
KEPT_FOR = timedelta(days=30)


def record(findings: Findings, config: AlertsConfig, *, using: str) -> None:
    """Store the findings of a check.

    An alert opens with the first check that finds its problem. Its notices are created once the
    problem has lasted for its limit. A problem that is gone before has an alert without a message.
    """
    open_alerts = _seen(findings, using=using)
    _create_notices(open_alerts, findings, config, using=using)
    _resolve(findings, using=using)
    old = Alert.objects.using(using).filter(resolved_at__lt=findings.at - KEPT_FOR)
    old.delete()


def _seen(findings: Findings, *, using: str) -> list[Alert]:
    """Return the open alerts of the problems, updated or new."""
    rows = Alert.objects.using(using).filter(resolved_at=None)
    known = set(rows.values_list("problem", flat=True))
    new = [one for key, one in findings.problems.items() if key not in known]
    made = [_alert(one, findings.at) for one in new]
    Alert.objects.using(using).bulk_create(made, ignore_conflicts=True)
    found = list(rows.filter(problem__in=findings.problems))
    for row in found:
        problem = findings.problems[row.problem]
        row.text, row.path = masked_patterns(problem.text), problem.path
        row.seen_at = max(row.seen_at, findings.at)
    Alert.objects.using(using).bulk_update(found, ["text", "path", "seen_at"])
    return found


def _alert(problem: Problem, now: datetime) -> Alert:
    return Alert(
        problem=problem.key,
        trigger=problem.trigger,
        text=masked_patterns(problem.text),
        path=problem.path,
        opened_at=now,
        seen_at=now,
    )


def _create_notices(
    found: Iterable[Alert], findings: Findings, config: AlertsConfig, *, using: str
) -> None:
    notices = [
        AlertNotice(alert=row, channel=channel.name)
        for row in found
        for channel in config.channels.values()
        if row.trigger in channel.triggers and _has_lasted(row, findings.at, config)
    ]
    AlertNotice.objects.using(using).bulk_create(notices, ignore_conflicts=True)


def _has_lasted(row: Alert, now: datetime, config: AlertsConfig) -> bool:
    # A lag is found only after its limit.
    seconds = 0.0 if row.trigger == LAG else config.limits[row.trigger]
    return now - row.opened_at >= timedelta(seconds=seconds)


def _resolve(findings: Findings, *, using: str) -> None:
    silent = Alert.objects.using(using).filter(
        resolved_at=None, seen_at__lte=findings.at - RESOLVED_AFTER
    )
    gone = [row.pk for row in silent if not findings.has_missed(row.problem)]
    silent.filter(pk__in=gone).update(resolved_at=findings.at)
    # No message was sent about them. If one is on its way now, its sender opens the notice again.
    unsent = AlertNotice.objects.using(using).filter(closed_at=None, sent_at=None)
    unsent.filter(alert__resolved_at__isnull=False).update(closed_at=findings.at)
