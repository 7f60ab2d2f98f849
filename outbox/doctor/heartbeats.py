"""Findings about the latest heartbeats of relay and beat, and about the clocks of hosts."""

from __future__ import annotations

from collections.abc import Iterator

from outbox.models import Heartbeat
from outbox.monitor.health import Heartbeats
from outbox.transports.base import QUEUE

from .findings import Finding, error, ok, warning

Kind = Heartbeat.Kind

#: Maximum difference in seconds between a host's clock and the database's.
_MAX_OFFSET = 1.0


def examine(*, using: str) -> Iterator[Finding]:
    """Examine the heartbeats of relay and beat, and the hosts' clocks."""
    found = Heartbeats(using=using)
    yield _relay(found)
    yield _beat(found)
    yield from _clocks(found)


def examine_relay(*, using: str) -> Iterator[Finding]:
    """Examine the latest heartbeat of a relay."""
    yield _relay(Heartbeats(using=using))


def _relay(found: Heartbeats) -> Finding:
    seen = found.latest(Kind.RELAY)
    if seen.is_fresh:
        return ok("relay", f"A relay was seen {seen.age(found.now)} ago.")
    return error(
        "relay",
        f"The relay was last seen {seen.age(found.now)} ago." if seen.at else "No relay was seen.",
        f"Start a worker of the queue {QUEUE}. Until then no delivery is sent.",
    )


def _beat(found: Heartbeats) -> Finding:
    seen = found.latest(Kind.BEAT)
    if seen.is_fresh:
        return ok("beat", f"Its task ran {seen.age(found.now)} ago.")
    return warning(
        "beat",
        f"Its task last ran {seen.age(found.now)} ago." if seen.at else "Its task never ran.",
        "Start beat, with a schedule for outbox.relay. The task runs in the queue "
        f"{QUEUE}, so check that queue's workers, too.",
    )


def _clocks(found: Heartbeats) -> Iterator[Finding]:
    """Examine the offsets from the database's clock that relay, workers and beat measured."""
    offsets = {name: one.total_seconds() for name, one in found.host_offsets().items()}
    wrong = {name: offset for name, offset in offsets.items() if abs(offset) > _MAX_OFFSET}
    if not wrong:
        yield ok("clocks", f"No host differs by more than {_MAX_OFFSET:g} s from the database.")
    for name, offset in wrong.items():
        how = "ahead of" if offset > 0 else "behind"
        yield warning(
            "clocks",
            f"The host of {name} is {abs(offset):.1f} s {how} the database.",
            "Deliveries are not affected: the outbox uses the database's clock. Times in this "
            "host's logs and traces are wrong. Start its time service (NTP).",
        )
