"""Findings about queues: a worker must answer a canary sent through each queue."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from uuid import uuid4

from django.db.models import F

from outbox import clock
from outbox.deliveries import heartbeat
from outbox.models import Delivery, Heartbeat, Subscription
from outbox.subscriptions import queues as queues_of_code
from outbox.tasks import send_canary
from outbox.transports.celery import QUEUE

from .findings import Finding, error, ok, warning

Kind = Heartbeat.Kind

_POLL_SECONDS = 0.1


def all_queues(*, using: str) -> set[str]:
    """Return all queues that need a consumer: the relay's, and those of all handlers."""
    rows = Subscription.objects.using(using).filter(active=True)
    return {QUEUE, *rows.values_list("queue", flat=True)}.union(*queues_of_code().values())


def examine(queues: Collection[str], *, timeout: float, using: str) -> Iterator[Finding]:
    """Send a canary through each queue, and wait up to `timeout` seconds for the answers."""
    nonce = uuid4().hex
    waiting = {queue: f"{queue}:{nonce}" for queue in queues}
    try:
        for queue, name in waiting.items():
            send_canary(queue, name, expires=timeout)
    except Exception as caught:
        yield error(
            "queues",
            f"No canary could be sent: {type(caught).__name__}: {caught}.",
            "See whether the broker answers: `manage.py outbox doctor` examines it.",
        )
        return
    answered = _answered(waiting, timeout=timeout, using=using)
    for queue in sorted(waiting):
        yield _judged(queue, has_come=queue in answered, timeout=timeout, using=using)


def examine_worker(name: str, *, queues: Collection[str], using: str) -> Iterator[Finding]:
    """Examine the heartbeat of one worker, and whether it names these queues."""
    part, now = f"worker {name}", clock.now(using=using)
    row = Heartbeat.objects.using(using).filter(kind=Kind.WORKER, name=name).first()
    if row is None or now - row.seen_at > heartbeat.stale_after():
        age = heartbeat.Sign(at=row.seen_at if row else None).age(now)
        seen = f"It was not seen for {age}." if age else "It was never seen."
        yield error(part, seen, "Start it, or restart it if it runs.")
    elif missing := sorted(set(queues) - set(row.queues)):
        text = f"It lives and does not consume {', '.join(missing)}."
        yield error(part, text, "Restart it, with each queue in its -Q.")
    else:
        yield ok(part, f"It lives and consumes {', '.join(sorted(queues))}.")


def _answered(waiting: dict[str, str], *, timeout: float, using: str) -> set[str]:
    rows = Heartbeat.objects.using(using).filter(kind=Kind.CANARY, name__in=waiting.values())
    until = time.monotonic() + timeout
    answered: set[str] = set()
    while len(answered) < len(waiting) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        names = set(rows.values_list("name", flat=True))
        answered = {queue for queue, name in waiting.items() if name in names}
    rows.delete()
    return answered


def _judged(queue: str, *, has_come: bool, timeout: float, using: str) -> Finding:
    part = f"queue {queue}"
    if has_come:
        return ok(part, "A worker consumes it: the canary came back.")
    sign = heartbeat.latest(Kind.WORKER, queue=queue, using=using)
    if not sign.is_fresh:
        age = sign.age(clock.now(using=using))
        seen = f"no worker of it was seen for {age}" if age else "it has none"
        text = f"The canary did not come back: {seen}."
        return error(part, text, f"Start a worker with -Q {queue}.")
    late = f"The canary did not come back within {timeout:g} s"
    if number := _running(queue, using=using):
        text = f"{late}, as its workers have {number} deliveries in hand, within their leases."
        return warning(part, text, "Give it more processes if that lasts.")
    return error(
        part,
        f"{late}, though a worker of it was seen {sign.age(clock.now(using=using))} ago and has "
        "nothing in hand: it lives and no longer consumes.",
        "Ask again with a longer --timeout; if it stays so, restart that worker.",
    )


def _running(queue: str, *, using: str) -> int:
    """Return the number of running deliveries of a queue whose leases hold: busy is not stuck."""
    sent = Delivery.objects.using(using).filter(state=Delivery.State.SENT)
    started = sent.filter(started_token=F("token"), due_at__gt=clock.now(using=using))
    return started.filter(subscription__queue=queue).count()
