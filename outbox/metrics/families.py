"""The metric families, independent of the Prometheus client: current gauges, stored counters."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import Any, Literal

from outbox import clock
from outbox.counting import counters
from outbox.counting.counters import RUN_BOUNDS, SUM, WAIT_BOUNDS
from outbox.models import Attempt, Heartbeat, Subscription
from outbox.monitor.consumers import ConsumerStatus
from outbox.monitor.demand import QueueDemand, queue_demands
from outbox.monitor.health import Heartbeats, LastSeen
from outbox.monitor.sources import SourceStatus, source_statuses
from outbox.monitor.status import HandlerStatus, Status, status
from outbox.monitor.unserved import first_waiting, waits_since
from outbox.transports import names
from outbox.transports.base import QUEUE

Kind = Literal["gauge", "counter", "histogram"]

#: Parts of the system with a heartbeat of their kind. Workers have one by queue.
PARTS = (Heartbeat.Kind.RELAY, Heartbeat.Kind.BEAT, Heartbeat.Kind.BROKER)
#: Those of a project without a broker.
LOCAL_PARTS = (Heartbeat.Kind.RELAY,)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A counter or histogram that is stored in the database.

    Attributes:
        key: its name in the table.
        name: its name in Prometheus; a counter's without "_total".
        help: its description, in one sentence.
        labels: names of its label and its part; a histogram's part is its bucket.
        bounds: upper bounds of a histogram's buckets in seconds; empty for a counter.
    """

    key: str
    name: str
    help: str
    labels: tuple[str, ...] = ("handler",)
    bounds: tuple[float, ...] = ()


COUNTED = (
    Counted(
        key="events",
        name="outbox_events",
        help="Events that the relay has fanned out.",
        labels=("event",),
    ),
    Counted(
        key="fan_out",
        name="outbox_fan_out_seconds",
        help="Seconds from emission to fan-out.",
        labels=(),
        bounds=WAIT_BOUNDS,
    ),
    Counted(key="messages", name="outbox_messages_sent", help="Messages that the broker accepted."),
    Counted(
        key="sent",
        name="outbox_deliveries_sent",
        help="Deliveries that were sent in messages or run inline.",
    ),
    Counted(
        key="broker_failures",
        name="outbox_broker_failures",
        help="Messages that the broker did not accept.",
        labels=(),
    ),
    Counted(
        key="attempts",
        name="outbox_attempts",
        help="Attempts of a handler, by outcome.",
        labels=("handler", "outcome"),
    ),
    Counted(
        key="attempt",
        name="outbox_attempt_seconds",
        help="Duration of an attempt in seconds.",
        bounds=RUN_BOUNDS,
    ),
    Counted(
        key="delivery",
        name="outbox_delivery_seconds",
        help="Seconds from emission to the receipt.",
        bounds=WAIT_BOUNDS,
    ),
)

#: Gauges of a handler, from its active subscriptions: name, description and value.
HANDLER_GAUGES: tuple[tuple[str, str, Callable[[list[Subscription]], float]], ...] = (
    (
        "outbox_handler_paused",
        "1: paused by a person, a rule or a backfill.",
        lambda mine: any(row.paused_at for row in mine),
    ),
    (
        "outbox_handler_known",
        "0: the code of the last migrate does not contain the handler.",
        lambda mine: all(row.known for row in mine),
    ),
    (
        "outbox_handler_lease_seconds",
        "Seconds that one delivery may take before it is presumed lost.",
        lambda mine: max(row.lease_seconds for row in mine),
    ),
    (
        "outbox_handler_window",
        "Most deliveries in flight at present; it shrinks and grows with the load.",
        lambda mine: sum(row.window_now for row in mine),
    ),
)

#: Gauges of a queue: name, description and value.
QUEUE_GAUGES: tuple[tuple[str, str, Callable[[QueueDemand], float]], ...] = (
    (
        "outbox_due",
        "Deliveries that a worker has to run now, those in flight included.",
        lambda one: one.due,
    ),
    (
        "outbox_workers_wanted",
        "Worker processes that run the due deliveries within the target lag; 0: none is due.",
        lambda one: one.workers_wanted,
    ),
)
OF_QUEUES = {name for name, _text, _value in QUEUE_GAUGES}

#: Gauges of a source: name, description and value.
SOURCE_GAUGES: tuple[tuple[str, str, Callable[[SourceStatus], float]], ...] = (
    (
        "outbox_source_paused",
        "1: paused, because its events have too many owed deliveries.",
        lambda one: one.paused_at is not None,
    ),
    ("outbox_source_failing", "1: it cannot receive.", lambda one: one.failing_at is not None),
    (
        "outbox_source_processes",
        "Processes with a recent heartbeat that receive it.",
        lambda one: one.processes,
    ),
    (
        "outbox_source_absent",
        "1: no process receives it, and one has to.",
        lambda one: one.condition == "absent",
    ),
)


@dataclass
class Family:
    """One metric with all of its series.

    Attributes:
        name: name in Prometheus; a counter's without "_total".
        kind: "gauge", "counter" or "histogram".
        help: its description, in one sentence.
        labels: names of the labels.
        samples: label values with the value.
        buckets: for a histogram: label values, (upper bound, cumulative count) pairs, and the sum.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    samples: list[tuple[tuple[str, ...], float]] = field(default_factory=list)
    buckets: list[tuple[tuple[str, ...], list[tuple[str, float]], float]] = field(
        default_factory=list
    )


def families_of(using: str, only: Collection[str] = ()) -> list[Family]:
    """Return the families of one database.

    Args:
        using: the outbox's database alias.
        only: names of families, without "_total"; empty: all.
    """
    if of_queues_alone(only):
        return [one for one in _of_queues(using=using) if one.name in only]
    return [one for one in _all(using=using) if not only or one.name in only]


def of_queues_alone(only: Collection[str]) -> bool:
    """Return whether only families of queues are requested, which need no stored counts."""
    return bool(only) and set(only) <= OF_QUEUES


def _all(*, using: str) -> list[Family]:
    found = status(using=using)
    rows = list(first_waiting(using=using).order_by("handler"))
    return [
        *_of_handlers(found),
        *_of_failing(found),
        *_of_subscriptions(rows, found.at),
        *_of_events(found),
        *_of_queues(using=using),
        *_of_heartbeats(_queues_of(rows), using=using),
        *_of_sources(source_statuses(using=using)),
        _of_consumers(found.consumers),
        *_counted({row.handler for row in rows}, using=using),
        up(1),
    ]


def _queues_of(rows: Sequence[Subscription]) -> set[str]:
    """Return the queues that workers have to serve. Only with Celery is the relay's one of them."""
    own = {QUEUE} if names.uses(names.CELERY) else set()
    return own | {row.queue for row in rows}


def up(value: float) -> Family:
    """Return the family of whether the database can be read."""
    text = "1: the database can be read; 0: it cannot, and it has no other metrics."
    return Family("outbox_database_up", "gauge", text, samples=[((), value)])


def _of_handlers(found: Status) -> Iterator[Family]:
    owed = Family("outbox_owed", "gauge", "Owed deliveries.", ("handler", "state"))
    oldest = Family(
        "outbox_oldest_owed_seconds",
        "gauge",
        "Age of the oldest event with an owed delivery in this state; 0 without one.",
        ("handler", "state"),
    )
    for one in found.handlers:
        for state in HandlerStatus.STATES:
            owed.samples.append(((one.handler, state), getattr(one, state)))
            age = found.age(one.oldest_in.get(state))
            oldest.samples.append(((one.handler, state), age.total_seconds() if age else 0))
    yield from (owed, oldest)


def _of_failing(found: Status) -> Iterator[Family]:
    """Yield the number of failing deliveries of each handler, and how long they have failed."""
    failing = Family(
        "outbox_failing",
        "gauge",
        "Deliveries whose latest attempt failed and that are tried again.",
        ("handler",),
    )
    seconds = Family(
        "outbox_failing_seconds",
        "gauge",
        "Seconds since the first failed attempt of a delivery that has not succeeded; 0: none.",
        ("handler",),
    )
    for one in found.handlers:
        failing.samples.append(((one.handler,), one.failing))
        age = found.age(min((g.since for g in found.failing_of(one.handler)), default=None))
        seconds.samples.append(((one.handler,), age.total_seconds() if age else 0))
    yield from (failing, seconds)


def _of_subscriptions(rows: Sequence[Subscription], now: datetime) -> Iterator[Family]:
    """Yield wait, condition and policy of each handler, and the breaker of each subscription.

    Args:
        rows: those of `first_waiting`.
        now: the time of the read.
    """
    by_handler: dict[str, list[Any]] = {}
    for row in rows:
        by_handler.setdefault(row.handler, []).append(row)
    for name, text, value in HANDLER_GAUGES:
        family = Family(name, "gauge", text, ("handler",))
        family.samples += [((handler,), value(mine)) for handler, mine in by_handler.items()]
        yield family
    yield Family(
        "outbox_longest_due_seconds",
        "gauge",
        "Seconds for which a due delivery of the handler has waited for a worker; 0: none waits.",
        ("handler",),
        [
            ((handler,), max((now - waits_since(row, now)).total_seconds() for row in mine))
            for handler, mine in by_handler.items()
        ],
    )
    yield Family(
        "outbox_handed_back",
        "gauge",
        "1: running workers hand deliveries of the handler back, for a worker of another release.",
        ("handler",),
        [
            ((handler,), int(any(row.known and row.is_handed_back for row in mine)))
            for handler, mine in by_handler.items()
        ],
    )
    yield Family(
        "outbox_breaker_open",
        "gauge",
        "1: the breaker is open, and only probes are sent.",
        ("handler", "event"),
        [((row.handler, row.event), row.breaker_opened_at is not None) for row in rows],
    )


def _of_events(found: Status) -> Iterator[Family]:
    age = found.age(found.oldest_waiting)
    yield Family(
        "outbox_waiting_events",
        "gauge",
        "Events that wait for fan-out.",
        samples=[((), found.waiting_events)],
    )
    yield Family(
        "outbox_oldest_waiting_seconds",
        "gauge",
        "Age of the oldest event that waits for fan-out; 0 without one.",
        samples=[((), age.total_seconds() if age else 0)],
    )


def _of_queues(*, using: str) -> Iterator[Family]:
    """Yield the demand of each queue."""
    found = queue_demands(using=using)
    for name, text, value in QUEUE_GAUGES:
        yield Family(name, "gauge", text, ("queue",), [((one.queue,), value(one)) for one in found])


def _of_heartbeats(queues: set[str], *, using: str) -> Iterator[Family]:
    found = Heartbeats(using=using)
    parts = PARTS if names.uses(names.CELERY) else LOCAL_PARTS
    yield Family(
        "outbox_last_seen_seconds",
        "gauge",
        "Seconds since the latest heartbeat; +Inf without one.",
        ("part",),
        [((part.value,), _age(found.latest(part), using=using)) for part in parts],
    )
    yield Family(
        "outbox_relays_failing",
        "gauge",
        "Relays with a recent heartbeat whose every pass fails.",
        samples=[((), len(found.failing_relays()))],
    )
    refused = {one.queue: len(one.processes) for one in found.refused_queues()}
    yield Family(
        "outbox_queue_refused",
        "gauge",
        "Running processes whose latest message for the queue the broker has refused.",
        ("queue",),
        [((queue,), refused.get(queue, 0)) for queue in sorted({*queues, *refused})],
    )
    yield Family(
        "outbox_worker_last_seen_seconds",
        "gauge",
        "Seconds since the latest heartbeat of a worker of the queue; +Inf without one.",
        ("queue",),
        [
            ((queue,), _age(found.latest(Heartbeat.Kind.WORKER, queue=queue), using=using))
            for queue in sorted(queues)
        ],
    )


def _of_sources(found: Sequence[SourceStatus]) -> Iterator[Family]:
    """Yield the families of sources."""
    yield Family(
        "outbox_source_messages",
        "counter",
        "Messages of a source by outcome.",
        ("source", "outcome"),
        [((one.name, outcome), number) for one in found for outcome, number in one.counts.items()],
    )
    yield Family(
        "outbox_source_lag",
        "gauge",
        "Messages that wait in the external system, as measured last.",
        ("source",),
        [((one.name,), one.lag) for one in found if one.lag is not None],
    )
    for name, text, value in SOURCE_GAUGES:
        yield Family(name, "gauge", text, ("source",), [((one.name,), value(one)) for one in found])


def _of_consumers(found: Sequence[ConsumerStatus]) -> Family:
    family = Family(
        "outbox_settlements",
        "gauge",
        "Settlements that consumers owe: open, late ones of these, and missing.",
        ("handler", "consumer", "state"),
    )
    for one in found:
        for state in ("open", "late", "missing"):
            family.samples.append(((one.handler, one.consumer, state), getattr(one, state)))
    return family


def _age(seen: LastSeen, *, using: str) -> float:
    return max(0.0, (clock.now(using=using) - seen.at).total_seconds()) if seen.at else float("inf")


def _counted(handlers: set[str], *, using: str) -> Iterator[Family]:
    by_name: dict[str, dict[str, dict[str, float]]] = {}
    # A series that starts at 1 has no increase. So the first death would raise no alert.
    by_name["attempts"] = {handler: {Attempt.Outcome.DIED.value: 0} for handler in handlers}
    for (name, label), part, value in counters.counted(using=using):
        by_name.setdefault(name, {}).setdefault(label, {})[part] = value
    for one in COUNTED:
        kind: Kind = "histogram" if one.bounds else "counter"
        family = Family(one.name, kind, one.help, one.labels)
        for label, parts in by_name.get(one.key, {}).items():
            if one.bounds:
                _add_histogram(family, one, label, parts)
            else:
                family.samples += [
                    ((label, part)[: len(one.labels)], value) for part, value in parts.items()
                ]
        yield family


def _add_histogram(family: Family, one: Counted, label: str, parts: dict[str, float]) -> None:
    """Add the buckets of one label. A stored bucket of another release goes to the next bound."""
    counts = [0.0] * (len(one.bounds) + 1)
    for part, value in parts.items():
        if part != SUM:
            counts[bisect_left(one.bounds, float(part))] += value
    bounds = [*(str(float(bound)) for bound in one.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(counts), strict=True))
    family.buckets.append(((label,)[: len(one.labels)], buckets, parts.get(SUM, 0)))
