"""Who lives: relay and beat, by their latest signs of life."""

from __future__ import annotations

from collections.abc import Iterator

from outbox import clock
from outbox.engine import heartbeat
from outbox.models import Heartbeat
from outbox.worker import QUEUE

from .findings import Finding, error, ok, warning

Kind = Heartbeat.Kind


def examine(*, using: str) -> Iterator[Finding]:
    """Look for the signs of life of relay and beat."""
    yield from examine_relay(using=using)
    yield from _examine_beat(using=using)


def examine_relay(*, using: str) -> Iterator[Finding]:
    """Look for the sign of life of a relay."""
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
