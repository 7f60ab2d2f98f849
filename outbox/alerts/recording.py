"""Store the findings of a check: open, update and resolve alerts, and create due notices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet

from outbox import clock
from outbox.models import Alert, AlertNotice
from outbox.privacy.masking import masked_patterns

from .claims import CLOCK_TOLERANCE
from .configuration import BREAKER, FAILING, LAG, AlertsConfig, ChannelConfig
from .findings import Findings, Problem, key_of

#: An alert is resolved if checks have not found its problem for so long. So a problem that comes
#: and goes opens one alert.
RESOLVED_AFTER = timedelta(seconds=60)
#: Without a channel no check runs. Then an alert is resolved that none has found for so long.
UNWATCHED_AFTER = timedelta(minutes=10)
#: A lag is reported if a check finds it again after so many seconds: a delivery that workers hand
#: back looks late while its message is on its way to them.
_LAG_SECONDS = 5.0
#: Resolved alerts are kept for so long.
KEPT_FOR = timedelta(days=30)


def record(findings: Findings, config: AlertsConfig, *, using: str) -> None:
    """Store the findings of a check, in at most one transaction that writes.

    An alert opens with the first check that finds its problem. Its notices are created once the
    problem has lasted for its limit. A problem that is gone before has an alert without a message.
    """
    known = {row.problem: row for row in _open(using)}
    if not (findings.problems or known or _old(findings.at, using=using).exists()):
        return
    with transaction.atomic(using=using):  # one write lock of SQLite
        found = _seen(findings, known, using=using)
        open_keys = {*known, *findings.problems}
        _create_notices(found, findings, open_keys, config, using=using)
        gone = [row.pk for row in known.values() if _is_gone(row, findings, config)]
        _resolve(gone, config, at=findings.at, using=using)
        _old(findings.at, using=using).delete()


def end_unwatched(config: AlertsConfig, *, using: str) -> None:
    """Resolve the open alerts without a message, and delete old ones, where no check runs.

    Args:
        config: the settings. With a channel, checks do this.
        using: the outbox's database alias.
    """
    if config.channels:
        return
    now = clock.now(using=using)
    gone = list(
        _open(using).filter(seen_at__lte=now - UNWATCHED_AFTER).values_list("pk", flat=True)
    )
    _resolve(gone, config, at=now, using=using)
    AlertNotice.objects.using(using).filter(alert__in=gone).update(closed_at=now)
    _old(now, using=using).delete()


def _open(using: str) -> QuerySet[Alert]:
    return Alert.objects.using(using).filter(resolved_at=None)


def _old(now: datetime, *, using: str) -> QuerySet[Alert]:
    return Alert.objects.using(using).filter(resolved_at__lt=now - KEPT_FOR)


def _seen(findings: Findings, known: Mapping[str, Alert], *, using: str) -> list[Alert]:
    """Return the open alerts of the problems, updated or new."""
    new = [one for key, one in findings.problems.items() if key not in known]
    made = [_alert(one, findings.at) for one in new]
    Alert.objects.using(using).bulk_create(made, ignore_conflicts=True)
    found = [row for key, row in known.items() if key in findings.problems]
    for row in found:
        problem = findings.problems[row.problem]
        row.text, row.path = masked_patterns(problem.text), problem.path
        row.seen_at = (
            findings.at if _is_of_the_future(row, findings.at) else max(row.seen_at, findings.at)
        )
    Alert.objects.using(using).bulk_update(found, ["text", "path", "seen_at"])
    return [*found, *_open(using).filter(problem__in=[one.key for one in new])] if new else found


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
    found: Iterable[Alert],
    findings: Findings,
    open_keys: Collection[str],
    config: AlertsConfig,
    *,
    using: str,
) -> None:
    notices = [
        AlertNotice(alert=row, channel=channel.name)
        for row in found
        for channel in config.channels.values()
        if row.trigger in channel.triggers
        and _has_lasted(row, findings.at, config)
        and not _is_named_by_another(row, channel, open_keys)
    ]
    AlertNotice.objects.using(using).bulk_create(notices, ignore_conflicts=True)


def _has_lasted(row: Alert, now: datetime, config: AlertsConfig) -> bool:
    # A lag is found only after its limit.
    seconds = _LAG_SECONDS if row.trigger == LAG else config.limits[row.trigger]
    return now - row.opened_at >= timedelta(seconds=seconds)


def _is_named_by_another(row: Alert, channel: ChannelConfig, open_keys: Collection[str]) -> bool:
    """Return whether the channel gets a message of another open problem that names this one.

    Failing deliveries name the breaker of their handler. Deliveries fail as long as it is open. So
    a channel that does not report them, or holds their messages, gets one of the breaker.
    """
    if row.trigger != BREAKER or FAILING not in channel.triggers:
        return False
    exceptions = channel.quiet.exceptions if channel.quiet is not None else frozenset()
    if BREAKER in exceptions and FAILING not in exceptions:
        return False
    handler = row.problem.removeprefix(key_of(BREAKER, ""))
    return any(key.startswith(key_of(FAILING, handler, "")) for key in open_keys)


def _is_gone(row: Alert, findings: Findings, config: AlertsConfig) -> bool:
    has_ended = row.seen_at <= findings.at - RESOLVED_AFTER or _is_of_the_future(row, findings.at)
    is_off = row.trigger not in config.limits  # no check looks for it
    return has_ended and (is_off or not findings.has_missed(row.problem))


def _is_of_the_future(row: Alert, now: datetime) -> bool:
    """Return whether the clock has gone back since it was seen."""
    return row.seen_at > now + CLOCK_TOLERANCE


def _resolve(gone: Collection[int], config: AlertsConfig, *, at: datetime, using: str) -> None:
    Alert.objects.using(using).filter(pk__in=gone, resolved_at=None).update(resolved_at=at)
    # No message was sent about them. If one is on its way now, its sender opens the notice again.
    without = Q(sent_at=None)
    for channel in config.channels.values():  # or the channel no longer reports the trigger
        without |= Q(channel=channel.name) & ~Q(alert__trigger__in=channel.triggers)
    notices = AlertNotice.objects.using(using).filter(closed_at=None, alert__in=gone)
    notices.filter(without).update(closed_at=at)
