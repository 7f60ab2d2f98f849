"""Who lives: relay, beat, and through each queue a canary that a worker must answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import uuid4

from django.utils import timezone

from outbox.engine import heartbeat
from outbox.models import Heartbeat, Subscription
from outbox.subscriptions import queues as queues_of_code
from outbox.tasks import send_canary
from outbox.worker import QUEUE

from .findings import Finding, error, ok, warning

Kind = Heartbeat.Kind

_LOOK_EVERY_SECONDS = 0.1


def examine(*, using: str) -> Iterator[Finding]:
    """Look for the signs of life of relay and beat."""
    relay = heartbeat.latest(Kind.RELAY, using=using)
    beat = heartbeat.latest(Kind.BEAT, using=using)
    now = timezone.now()
    if relay.is_fresh:
        yield ok("relay", f"It was seen {relay.age(now)} ago.")
    else:
        yield error(
            "relay",
            f"It was not seen for {relay.age(now)}." if relay.at else "None was seen.",
            f"Start a worker of the queue {QUEUE}; until then nothing is sent.",
        )
    if beat.is_fresh:
        yield ok("beat", f"Its task came {beat.age(now)} ago.")
    else:
        yield warning(
            "beat",
            f"Its task did not come for {beat.age(now)}." if beat.at else "Its task never came.",
            "Start beat, with a schedule for outbox.relay; its task runs in the queue "
            f"{QUEUE}, so that queue's workers may be what is missing.",
        )


def examine_queues(*, timeout: float, using: str) -> Iterator[Finding]:
    """Send a canary through each queue and wait until a worker has answered it."""
    nonce = uuid4().hex
    waiting = {queue: f"{queue}:{nonce}" for queue in _queues(using=using)}
    try:
        for queue, name in waiting.items():
            send_canary(queue, name, expires=timeout)
    except Exception as caught:
        yield error(
            "queues",
            f"No canary could be sent: {type(caught).__name__}: {caught}.",
            "See the findings about the broker.",
        )
        return
    came = _answered(waiting, timeout=timeout, using=using)
    for queue in sorted(waiting):
        yield _judged(queue, has_come=queue in came, timeout=timeout, using=using)


def _queues(*, using: str) -> set[str]:
    rows = Subscription.objects.using(using).filter(active=True)
    return {QUEUE, *rows.values_list("queue", flat=True)}.union(*queues_of_code().values())


def _answered(waiting: dict[str, str], *, timeout: float, using: str) -> set[str]:
    rows = Heartbeat.objects.using(using).filter(kind=Kind.CANARY, name__in=waiting.values())
    until = time.monotonic() + timeout
    came: set[str] = set()
    while len(came) < len(waiting) and time.monotonic() < until:
        time.sleep(_LOOK_EVERY_SECONDS)
        names = set(rows.values_list("name", flat=True))
        came = {queue for queue, name in waiting.items() if name in names}
    rows.delete()
    return came


def _judged(queue: str, *, has_come: bool, timeout: float, using: str) -> Finding:
    part = f"queue {queue}"
    if has_come:
        return ok(part, "A worker consumes it: the canary came back.")
    sign = heartbeat.latest(Kind.WORKER, queue=queue, using=using)
    if sign.is_fresh:
        return error(
            part,
            f"The canary did not come back within {timeout:g} s, though a worker of it was seen "
            f"{sign.age(timezone.now())} ago: it is busy, or it lives and no longer consumes.",
            "Ask again with a longer --timeout; if it stays so, restart that worker.",
        )
    seen = f"no worker of it was seen for {sign.age(timezone.now())}" if sign.at else "it has none"
    return error(part, f"The canary did not come back: {seen}.", f"Start a worker with -Q {queue}.")
