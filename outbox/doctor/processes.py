"""Findings about processes: heartbeats of relay, beat and workers, and the clocks of their hosts.

A heartbeat does not prove that a worker consumes its queue. So a worker must answer a canary sent
through each queue.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from uuid import uuid4

from django.db.models import F

from outbox import clock
from outbox.deliveries.heartbeat import stale_after
from outbox.formatting import span
from outbox.models import Delivery, Heartbeat, Subscription
from outbox.monitor.health import BEATS_TASK, Heartbeats
from outbox.subscriptions import queues as queues_of_code
from outbox.transports import names
from outbox.transports.base import QUEUE

from .findings import Finding, error, ok, warning

Kind = Heartbeat.Kind

_POLL_SECONDS = 0.1

#: Maximum difference in seconds between a host's clock and the database's.
_MAX_OFFSET = 1.0


def examine_heartbeats(*, using: str) -> Iterator[Finding]:
    """Examine the heartbeats of relay and beat, and the hosts' clocks."""
    found = Heartbeats(using=using)
    yield _relay(found)
    if names.uses(names.CELERY):
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
        f"{_to_start_relay()} Until then no delivery is sent.",
    )


def _to_start_relay() -> str:
    if names.uses(names.CELERY):
        return f"Start a worker of the queue {QUEUE}."
    return "Start manage.py outbox work."


def _beat(found: Heartbeats) -> Finding:
    task = found.latest(Kind.BEAT, name=BEATS_TASK)
    if task.is_fresh:
        return ok("beat", f"Its task ran {task.age(found.now)} ago.")
    process, started_at = found.process_of_beat()
    last = f"its task last ran {task.age(found.now)} ago" if task.at else "its task never ran"
    if process.is_fresh and started_at is not None:
        if found.now - started_at < stale_after():
            age = span(found.now - started_at)
            return ok("beat", f"It started {age} ago. Its task runs every few seconds from now on.")
        return warning(
            "beat",
            f"It runs, but {last}.",
            f"Check the workers of the queue {QUEUE}, in which the task runs, and that beat's "
            "schedule has outbox.relay.",
        )
    seen = f"It was last seen {process.age(found.now)} ago, and" if process.at else "It is silent:"
    return warning(
        "beat",
        f"{seen} {last}.",
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


def all_queues(*, using: str) -> set[str]:
    """Return all queues that need a consumer: the relay's, and those of all handlers."""
    rows = Subscription.objects.using(using).filter(active=True)
    return {QUEUE, *rows.values_list("queue", flat=True)}.union(*queues_of_code().values())


def examine_queues(queues: Collection[str], *, timeout: float, using: str) -> Iterator[Finding]:
    """Send a canary by Celery through each queue, and wait up to `timeout` s for the answers."""
    from outbox.tasks import send_canary  # it needs Celery

    nonce = uuid4().hex
    waiting = {queue: f"{queue}:{nonce}" for queue in queues}
    try:
        for queue, name in waiting.items():
            send_canary(queue, name, expires=timeout)
    except Exception as caught:
        yield error(
            "queues",
            f"No canary could be sent: {type(caught).__name__}: {caught}.",
            "Start the broker, or correct its address. Deliveries wait in the database.",
        )
        return
    answered = _answered(waiting, timeout=timeout, using=using)
    for queue in sorted(waiting):
        yield _judged(queue, is_answered=queue in answered, timeout=timeout, using=using)


def examine_worker(name: str, *, queues: Collection[str], using: str) -> Iterator[Finding]:
    """Examine the heartbeat of one worker, and whether it names these queues."""
    part, found = f"worker {name}", Heartbeats(using=using)
    seen = found.latest(Kind.WORKER, name=name)
    if not seen.is_fresh:
        age = seen.age(found.now)
        text = f"It was last seen {age} ago." if age else "It was never seen."
        yield error(part, text, "Start it, or restart it if it runs.")
    elif missing := sorted(set(queues) - set(seen.queues)):
        text = f"It runs, but does not consume {', '.join(missing)}."
        yield error(part, text, "Restart it, with each queue in its -Q or --queue.")
    else:
        yield ok(part, f"It runs and consumes {', '.join(sorted(queues))}.")


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


def _judged(queue: str, *, is_answered: bool, timeout: float, using: str) -> Finding:
    part = f"queue {queue}"
    if is_answered:
        return ok(part, "A worker consumes it: the canary was answered.")
    found = Heartbeats(using=using)
    seen = found.latest(Kind.WORKER, queue=queue)
    age = seen.age(found.now)
    if not seen.is_fresh:
        last = f"its last worker was seen {age} ago" if age else "it has no worker"
        text = f"The canary was not answered: {last}."
        return error(part, text, f"Start a worker with -Q {queue}.")
    late = f"The canary was not answered within {timeout:g} s"
    if number := _running(queue, using=using):
        noun = "1 delivery, within its lease" if number == 1 else _within_leases(number)
        text = f"{late}: its workers run {noun}."
        return warning(part, text, "If this lasts, give it more processes.")
    return error(
        part,
        f"{late}. A worker of it was seen {age} ago and runs no delivery: it no longer consumes.",
        "Try again with a longer --timeout. If the error stays, restart that worker.",
    )


def _within_leases(number: int) -> str:
    return f"{number:,} deliveries, within their leases"


def _running(queue: str, *, using: str) -> int:
    """Return the number of running deliveries of a queue whose leases hold: busy is not stuck."""
    sent = Delivery.objects.using(using).filter(state=Delivery.State.SENT)
    started = sent.filter(started_token=F("token"), due_at__gt=clock.now(using=using))
    return started.filter(subscription__queue=queue).count()
