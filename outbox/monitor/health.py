"""Health of each part of the system by its latest heartbeat.

No network requests: processes store their heartbeats, and this module reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import clock, databases
from outbox.deliveries.heartbeat import stale_after
from outbox.formatting import span
from outbox.models import Heartbeat, Subscription
from outbox.transports.celery import QUEUE

Kind = Heartbeat.Kind


@dataclass(frozen=True, kw_only=True)
class Light:
    """The health of one part of the system.

    Attributes:
        part: "relay", "beat", "broker", "database" or "queue".
        queue: name of the queue; "" for other parts.
        is_on: whether its latest heartbeat is recent enough.
        seen_at: time of its latest heartbeat, or None without one.
        text: its health in a few words.
    """

    part: str
    queue: str = ""
    is_on: bool
    seen_at: datetime | None = None
    text: str

    @property
    def name(self) -> str:
        """The name to display."""
        names = {
            "relay": _("relay"),
            "beat": _("beat"),
            "broker": _("broker"),
            "database": _("database"),
        }
        return names.get(self.part) or _("queue %s") % self.queue


def lights(*, using: str | None = None) -> list[Light]:
    """Return the health of each part; cost: two small queries."""
    using = using or databases.alias()
    now = clock.now(using=using)
    rows = list(Heartbeat.objects.using(using).exclude(kind=Kind.CANARY))
    active = Subscription.objects.using(using).filter(active=True)
    queues = {QUEUE, *active.values_list("queue", flat=True)}
    return [
        _light("relay", _of(rows, Kind.RELAY), now),
        _light("beat", _of(rows, Kind.BEAT), now),
        _light("broker", _of(rows, Kind.BROKER), now),
        Light(part="database", is_on=True, seen_at=now, text=_("answers")),
        *(_workers(queue, rows, now) for queue in sorted(queues)),
    ]


def _of(rows: Iterable[Heartbeat], kind: str) -> list[datetime]:
    return [row.seen_at for row in rows if row.kind == kind]


def _light(part: str, seen: Sequence[datetime], now: datetime) -> Light:
    latest = max(seen, default=None)
    if latest is not None and now - latest < stale_after():
        # Coarse, so that the text does not change with each poll.
        text = _("seen within %s") % span(stale_after())
        return Light(part=part, is_on=True, seen_at=latest, text=text)
    return Light(part=part, is_on=False, seen_at=latest, text=_silence(latest, now))


def _workers(queue: str, rows: Iterable[Heartbeat], now: datetime) -> Light:
    mine = [row.seen_at for row in rows if row.kind == Kind.WORKER and queue in row.queues]
    fresh = sum(now - seen_at < stale_after() for seen_at in mine)
    latest = max(mine, default=None)
    text = ngettext("%d worker", "%d workers", fresh) % fresh if fresh else _silence(latest, now)
    return Light(part="queue", queue=queue, is_on=bool(fresh), seen_at=latest, text=text)


def _silence(latest: datetime | None, now: datetime) -> str:
    return _("silent for %s") % span(now - latest) if latest else _("never seen")
