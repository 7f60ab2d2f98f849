"""The condition of each configured source: processes, lag, pause, failure and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from django.core.exceptions import ImproperlyConfigured

from outbox import databases
from outbox.models import Delivery, Heartbeat, SourceState
from outbox.sources.configuration import SourceConfig, configured
from outbox.sources.state import OUTCOMES
from outbox.sources.unreadable import HANDLER

from .health import Heartbeats, LastSeen

Condition = Literal["absent", "elsewhere", "failing", "paused", "running"]

_COUNTED = 1000


@dataclass(frozen=True, kw_only=True)
class SourceStatus:
    """The condition of one source.

    Attributes:
        name: its name in `OUTBOX["SOURCES"]`.
        is_pulled: whether a process has to receive its messages.
        is_expected: whether a process has to receive them into this database, if it is pulled.
        processes: number of processes with a recent heartbeat that receive it.
        seen: the latest heartbeat of such a process.
        lag: messages that wait in the external system; None: unknown.
        paused_at: since when it is paused, because its backlog is too large.
        failing_at: since when it cannot receive.
        failure: why.
        counts: messages by outcome since the first start: stored, duplicates, ...
        lag_at: when the lag was measured.
        last_at: when the last message came, up to ten seconds later; None: none has come.
    """

    name: str
    is_pulled: bool
    is_expected: bool = True
    processes: int = 0
    seen: LastSeen = field(default_factory=LastSeen)
    lag: int | None = None
    paused_at: datetime | None = None
    failing_at: datetime | None = None
    failure: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    lag_at: datetime | None = None
    last_at: datetime | None = None

    @property
    def condition(self) -> Condition:
        """Whether it receives; "elsewhere": it does not, and has to only in another database."""
        if self.is_pulled and not self.processes:
            return "absent" if self.is_expected else "elsewhere"
        if self.failing_at:
            return "failing"
        return "paused" if self.paused_at else "running"


def source_statuses(*, using: str | None = None, has_others: bool = False) -> list[SourceStatus]:
    """Return the condition of the configured sources by name; cost: two small queries.

    Without sources, and if the setting is invalid, there is none and nothing is read.

    Args:
        using: the outbox's database alias.
        has_others: also those that are received in another database only.
    """
    using = using or databases.alias()
    try:
        sources = configured()
    except ImproperlyConfigured:  # a system check reports it
        return []
    if not sources:
        return []
    found = Heartbeats(using=using)
    rows = {row.source: row for row in SourceState.objects.using(using).filter(source__in=sources)}
    statuses = [_status(one, rows.get(name), found) for name, one in sorted(sources.items())]
    return [one for one in statuses if has_others or one.condition != "elsewhere"]


def _status(source: SourceConfig, row: SourceState | None, found: Heartbeats) -> SourceStatus:
    kind = Heartbeat.Kind.RECEIVER
    state = row or SourceState(source=source.name)
    return SourceStatus(
        name=source.name,
        is_pulled=source.is_pulled,
        is_expected=found.is_expected(source.name),
        processes=found.running(kind, source.name),
        seen=found.latest(kind, queue=source.name),
        lag=state.lag,
        paused_at=state.paused_at,
        failing_at=state.failing_at,
        failure=state.failure,
        counts={name: getattr(state, name) for name in OUTCOMES},
        lag_at=state.lag_at,
        last_at=state.last_at,
    )


def dead_messages(*, using: str | None = None) -> Counter[str]:
    """Count the messages that are dead letters, by source, among the newest 1000."""
    using = using or databases.alias()
    rows = Delivery.objects.using(using).filter(
        subscription__handler=HANDLER, state=Delivery.State.DEAD
    )
    return Counter(rows.order_by("-pk").values_list("event__payload__source", flat=True)[:_COUNTED])
