"""Findings about the latest heartbeats of relay and beat, and about the clocks of hosts."""

from __future__ import annotations

from collections.abc import Iterator

from outbox import clock
from outbox.deliveries import heartbeat
from outbox.models import Heartbeat
from outbox.transports.celery import QUEUE

from .findings import Finding, error, ok, warning

Kind = Heartbeat.Kind

#: Maximum difference in seconds between a host's clock and the database's.
_MAX_OFFSET = 1.0


def examine(*, using: str) -> Iterator[Finding]:
    """Examine the heartbeats of relay and beat, and the hosts' clocks."""
    yield from examine_relay(using=using)
    yield from _examine_beat(using=using)
    yield from _examine_clocks(using=using)


def examine_relay(*, using: str) -> Iterator[Finding]:
    """Examine the latest heartbeat of a relay."""
    sign, now = heartbeat.latest(Kind.RELAY, using=using), clock.now(using=using)
    if sign.is_fresh:
        yield ok("relay", f"It was seen {sign.age(now)} ago.")
    else:
        yield error(
            "relay",
            f"It was not seen for {sign.age(now)}." if sign.at else "None was seen.",
            f"Start a worker of the queue {QUEUE}; until then nothing is sent.",
        )


def _examine_beat(*, using: str) -> Iterator[Finding]:
    sign, now = heartbeat.latest(Kind.BEAT, using=using), clock.now(using=using)
    if sign.is_fresh:
        yield ok("beat", f"Its task came {sign.age(now)} ago.")
    else:
        yield warning(
            "beat",
            f"Its task did not come for {sign.age(now)}." if sign.at else "Its task never came.",
            "Start beat, with a schedule for outbox.relay; its task runs in the queue "
            f"{QUEUE}, so that queue's workers may be what is missing.",
        )


def _examine_clocks(*, using: str) -> Iterator[Finding]:
    """Examine the offsets from the database's clock that relay, workers and beat measured."""
    fresh = clock.now(using=using) - heartbeat.stale_after()
    rows = Heartbeat.objects.using(using).filter(seen_at__gt=fresh)
    rows = rows.filter(kind__in=(Kind.RELAY, Kind.WORKER, Kind.BEAT)).order_by("name")
    wrong = {row.name: row.host_offset for row in rows if abs(row.host_offset) > _MAX_OFFSET}
    if not wrong:
        yield ok("clocks", f"No host differs by more than {_MAX_OFFSET:g} s from the database.")
    for name, offset in wrong.items():
        how = "ahead of" if offset > 0 else "behind"
        yield warning(
            "clocks",
            f"The host of {name} is {abs(offset):.1f} s {how} the database.",
            "Deliveries are not affected, since the outbox uses the database's clock. Logs and "
            "traces of this host are off by as much: start its time service (NTP).",
        )
