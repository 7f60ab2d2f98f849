"""Which parts of the system live, by their latest signs of life: one light for each.

Nothing is asked over the network: processes write that they live, and here that is read.
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
    """One part of the system.

    Attributes:
        part: "relay", "beat", "broker", "database" or "queue".
        queue: the queue's name, where it is one.
        is_on: its latest sign of life is recent enough.
        seen_at: when that was, or None if there never was one.
        text: how it is, in a few words.
    """

    part: str
    queue: str = ""
    is_on: bool
    seen_at: datetime | None = None
    text: str

    @property
    def name(self) -> str:
        """What people call it."""
        names = {
            "relay": _("relay"),
            "beat": _("beat"),
            "broker": _("broker"),
            "database": _("database"),
        }
        return names.get(self.part) or _("queue %s") % self.queue


def lights(*, using: str | None = None) -> list[Light]:
    """Return a light for each part: two small reads."""
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
        text = _("seen within %s") % span(
            stale_after()
        )  # coarse: it need not change with each look
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
