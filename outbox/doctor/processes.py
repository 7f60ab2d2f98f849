"""Findings about processes: heartbeats of relay, beat and workers, and the clocks of their hosts.

A heartbeat does not prove that a worker consumes its queue. So a worker must answer a canary sent
through each queue.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from datetime import timedelta
from uuid import uuid4

from django.db.models import F
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import clock
from outbox.deliveries.heartbeat import stale_after
from outbox.formatting import listing, span
from outbox.models import Delivery, Heartbeat, Subscription
from outbox.monitor.conditions import OVERDUE_AFTER
from outbox.monitor.health import Heartbeats, failure_text
from outbox.monitor.unserved import idle_queues
from outbox.subscriptions import queues as queues_of_code
from outbox.transports import names
from outbox.transports.base import NUDGES, QUEUE

from .broker import NEXT_STEP
from .findings import Finding, error, facts_of, ok, warning

Kind = Heartbeat.Kind

_POLL_SECONDS = 0.1

#: Maximum difference in seconds between a host's clock and the database's.
_MAX_OFFSET = 1.0
#: Silent processes that are noted: those of the last hour, and the names of so many.
_SILENT_WITHIN, _MOST_SILENT = timedelta(hours=1), 5


def examine_heartbeats(*, using: str, has_failures: bool = True) -> Iterator[Finding]:
    """Examine the heartbeats of relay and beat, and the hosts' clocks.

    Args:
        using: the outbox's database alias.
        has_failures: quote the error of a relay that fails, and of a queue that takes nothing.
    """
    found = Heartbeats(using=using)
    yield _failing_relay(found, has_failures=has_failures) or _relay(found)
    if names.uses(names.CELERY):
        yield _beat(found)
    yield from _refused(found, has_failures=has_failures)
    yield from _silent(found)
    yield from _clocks(found)


def examine_relay(*, using: str) -> Iterator[Finding]:
    """Examine the latest heartbeat of a relay, for a probe: a restart cures no pass that fails."""
    yield _relay(Heartbeats(using=using))


def _failing_relay(found: Heartbeats, *, has_failures: bool) -> Finding | None:
    if (failing := found.failing_relay()) is None:
        return None
    text = failure_text(failing, has_failures=has_failures)
    return error(
        "relay",
        _("It runs, but %(text)s.") % {"text": text},
        _("Correct the cause. The log of that process has the traceback."),
    )


def _relay(found: Heartbeats) -> Finding:
    seen = found.latest(Kind.RELAY)
    if seen.is_fresh:
        return ok("relay", _("A relay was seen %(age)s ago.") % {"age": seen.age(found.now)})
    return error(
        "relay",
        _("The relay was last seen %(age)s ago.") % {"age": seen.age(found.now)}
        if seen.at
        else _("No relay was seen."),
        _("%(to_start_relay)s Until then no delivery is sent.")
        % {"to_start_relay": _to_start_relay()},
    )


def _to_start_relay() -> str:
    if names.uses(names.CELERY):
        return _("Start a worker of the queue %(queue)s.") % {"queue": QUEUE}
    return _("Start manage.py outbox work.")


def _beat(found: Heartbeats) -> Finding:
    task = found.latest(Kind.BEAT)
    if task.is_fresh:
        return ok("beat", _("Its task ran %(age)s ago.") % {"age": task.age(found.now)})
    process, started_at = found.process_of_beat()
    last = _("its task never ran")
    if task.at:
        last = _("its task last ran %(age)s ago") % {"age": task.age(found.now)}
    if process.is_fresh and started_at is not None:
        return _beat_without_task(found.now - started_at, last)
    seen = _("It is silent: %(last)s.") % {"last": last}
    if process.at:
        age = process.age(found.now)
        seen = _("It was last seen %(age)s ago, and %(last)s.") % {"age": age, "last": last}
    return warning(
        "beat",
        seen,
        _(
            "Start beat, with a schedule for outbox.relay. The task runs in "
            "the queue %(queue)s, so check that queue's workers, too."
        )
        % {"queue": QUEUE},
    )


def _beat_without_task(age: timedelta, last: str) -> Finding:
    if age < stale_after():
        return ok(
            "beat",
            _("It started %(age)s ago. Its task runs every few seconds from now on.")
            % {"age": span(age)},
        )
    return warning(
        "beat",
        _("It runs, but %(last)s.") % {"last": last},
        _(
            "Check the workers of the queue %(queue)s, in which the task runs, "
            "and that beat's schedule has outbox.relay."
        )
        % {"queue": QUEUE},
    )


def _refused(found: Heartbeats, *, has_failures: bool) -> Iterator[Finding]:
    """Report the queues that take no message from a running process."""
    for one in found.refused_queues():
        text = _("It %(text)s.") % {"text": one.in_words(found.now, has_cause=has_failures)}
        finding = warning if one.queue == NUDGES else error  # without nudges relays poll
        yield finding(f"queue {one.queue}", text, one.next_step)


def _silent(found: Heartbeats) -> Iterator[Finding]:
    """Note the processes that are silent while others do their work: nothing waits for them."""
    silent = found.silent_beside_others(within=_SILENT_WITHIN)
    names_and_ages = [
        _("%(name)s (%(age)s ago)") % {"name": one.name, "age": one.age(found.now)}
        for one in silent[:_MOST_SILENT]
    ]
    if silent:
        text = ngettext(
            "%(number)d process is silent, and others do its work: %(names)s. It was stopped, or "
            "its host is lost.",
            "%(number)d processes are silent, and others do their work: %(names)s. They were "
            "stopped, or their hosts are lost.",
            len(silent),
        )
        yield ok("processes", text % {"number": len(silent), "names": listing(names_and_ages)})


def _clocks(found: Heartbeats) -> Iterator[Finding]:
    """Examine the offsets from the database's clock that relay, workers and beat measured."""
    offsets = {name: one.total_seconds() for name, one in found.host_offsets().items()}
    wrong = {name: offset for name, offset in offsets.items() if abs(offset) > _MAX_OFFSET}
    if not wrong:
        yield ok(
            "clocks",
            _("No host differs by more than %(max_offset)s s from the database.")
            % {"max_offset": f"{_MAX_OFFSET:g}"},
        )
    for name, offset in wrong.items():
        how = _("ahead of") if offset > 0 else _("behind")
        yield warning(
            "clocks",
            _("The host of %(name)s is %(offset)s s %(how)s the database.")
            % {"name": name, "offset": f"{abs(offset):.1f}", "how": how},
            _(
                "Deliveries are not affected: the outbox uses the database's "
                "clock. Times in this host's logs and traces are wrong. Start its "
                "time service (NTP)."
            ),
        )


def all_queues(*, using: str) -> set[str]:
    """Return all queues that need a consumer: the relay's, and those of all handlers."""
    rows = Subscription.objects.using(using).filter(active=True)
    return {QUEUE, *rows.values_list("queue", flat=True)}.union(*queues_of_code().values())


def examine_queues(
    queues: Collection[str], *, is_probe: bool = False, timeout: float, using: str
) -> Iterator[Finding]:
    """Send a canary by Celery through each queue, and wait up to `timeout` s for the answers.

    Args:
        queues: their names.
        is_probe: each queue has to have a worker, even if no delivery waits for one.
        timeout: seconds.
        using: the outbox's database alias.
    """
    from outbox.tasks import send_canary  # it needs Celery

    nonce = uuid4().hex
    waiting = {queue: f"{queue}:{nonce}" for queue in queues}
    try:
        for queue, name in waiting.items():
            send_canary(queue, name, expires=timeout)
    except Exception as caught:
        yield error(
            "queues",
            _("No canary could be sent: %(name)s: %(caught)s.") % facts_of(caught),
            str(NEXT_STEP),
        )
        return
    answered = _answered(waiting, timeout=timeout, using=using)
    idle = set() if is_probe else idle_queues(queues, Heartbeats(using=using).workers, using=using)
    for queue in sorted(waiting):
        if queue in idle - answered:
            yield without_need(queue)
        else:
            yield _judged(queue, is_answered=queue in answered, timeout=timeout, using=using)


def without_need(queue: str) -> Finding:
    """Return the finding about a queue that has no worker and needs none."""
    text = _("It has no worker and needs none: no delivery has waited for one for over %(span)s.")
    return ok(f"queue {queue}", text % {"span": span(OVERDUE_AFTER)})


def examine_worker(name: str, *, queues: Collection[str], using: str) -> Iterator[Finding]:
    """Examine the heartbeat of one worker, and whether it names these queues."""
    part, found = f"worker {name}", Heartbeats(using=using)
    seen = found.latest(Kind.WORKER, name=name)
    if not seen.is_fresh:
        age = seen.age(found.now)
        text = _("It was last seen %(age)s ago.") % {"age": age} if age else _("It was never seen.")
        yield error(part, text, _("Start it, or restart it if it runs."))
    elif missing := sorted(set(queues) - set(seen.queues)):
        text = _("It runs, but does not consume %(names)s.") % {"names": listing(missing)}
        yield error(part, text, _("Restart it, with each queue in its -Q or --queue."))
    else:
        yield ok(part, _("It runs and consumes %(names)s.") % {"names": listing(sorted(queues))})


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
        return ok(part, _("A worker consumes it: the canary was answered."))
    found = Heartbeats(using=using)
    seen = found.latest(Kind.WORKER, queue=queue)
    age = seen.age(found.now)
    if not seen.is_fresh:
        last = (
            _("its last worker was seen %(age)s ago") % {"age": age}
            if age
            else _("it has no worker")
        )
        text = _("The canary was not answered: %(last)s.") % {"last": last}
        return error(part, text, _("Start a worker with -Q %(queue)s.") % {"queue": queue})
    late = _("The canary was not answered within %(timeout)s s") % {"timeout": f"{timeout:g}"}
    if number := _running(queue, using=using):
        text = ngettext(
            "%(late)s: its workers run %(number)s delivery, within its lease.",
            "%(late)s: its workers run %(number)s deliveries, within their leases.",
            number,
        ) % {"late": late, "number": f"{number:,}"}
        return warning(part, text, _("If this lasts, give it more processes."))
    return error(
        part,
        _(
            "%(late)s. A worker of it was seen %(age)s ago and runs no "
            "delivery: it no longer consumes."
        )
        % {"late": late, "age": age},
        _("Try again with a longer --timeout. If the error stays, restart that worker."),
    )


def _running(queue: str, *, using: str) -> int:
    """Return the number of running deliveries of a queue whose leases hold: busy is not stuck."""
    sent = Delivery.objects.using(using).filter(state=Delivery.State.SENT)
    started = sent.filter(started_token=F("token"), due_at__gt=clock.now(using=using))
    return started.filter(subscription__queue=queue).count()
