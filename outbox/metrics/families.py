"""The metric families, independent of the Prometheus client: current gauges, stored counters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from outbox import clock, databases
from outbox.counting import counters
from outbox.counting.counters import RUN_BOUNDS, SUM, WAIT_BOUNDS
from outbox.models import Heartbeat, Subscription
from outbox.monitor.health import Heartbeats, LastSeen
from outbox.monitor.status import HandlerStatus, Status, status
from outbox.transports.celery import QUEUE

Kind = Literal["gauge", "counter", "histogram"]

NEVER = float("inf")


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A counter or histogram that is stored in the database.

    Attributes:
        key: its name in the table.
        name: its name in Prometheus.
        help: its description.
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
        help="Events that the relay fanned out.",
        labels=("event",),
    ),
    Counted(
        key="fan_out",
        name="outbox_fan_out_seconds",
        help="From the event to its deliveries: the relay's lag.",
        labels=(),
        bounds=WAIT_BOUNDS,
    ),
    Counted(key="messages", name="outbox_messages_sent", help="Messages that the broker took."),
    Counted(key="sent", name="outbox_deliveries_sent", help="Deliveries in these messages."),
    Counted(
        key="broker_failures",
        name="outbox_broker_failures",
        help="Messages that the broker did not take.",
        labels=(),
    ),
    Counted(
        key="attempts",
        name="outbox_attempts",
        help="Starts of a handler, by how they ended.",
        labels=("handler", "outcome"),
    ),
    Counted(
        key="attempt",
        name="outbox_attempt_seconds",
        help="How long a handler ran.",
        bounds=RUN_BOUNDS,
    ),
    Counted(
        key="delivery",
        name="outbox_delivery_seconds",
        help="From the event to its receipt: the handler's lag.",
        bounds=WAIT_BOUNDS,
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


def families(*, using: str | None = None) -> list[Family]:
    """Return all metric families of the outbox.

    Cost: fourteen queries, whatever the number of handlers. It grows with the number of owed
    deliveries, not with history.
    """
    using = using or databases.alias()
    found = status(using=using)
    rows = list(Subscription.objects.using(using).filter(active=True).order_by("handler"))
    return [
        *_of_handlers(found),
        *_of_subscriptions(rows),
        *_of_events(found),
        *_of_heartbeats({QUEUE, *(row.queue for row in rows)}, using=using),
        *_counted(using=using),
    ]


def _of_handlers(found: Status) -> Iterator[Family]:
    owed = Family("outbox_owed", "gauge", "Deliveries that are owed.", ("handler", "state"))
    oldest = Family(
        "outbox_oldest_owed_seconds",
        "gauge",
        "Age of the oldest event that is owed, by the state of its delivery; 0: none is.",
        ("handler", "state"),
    )
    for one in found.handlers:
        for state in HandlerStatus.STATES:
            owed.samples.append(((one.handler, state), getattr(one, state)))
            age = found.age(one.oldest_in.get(state))
            oldest.samples.append(((one.handler, state), age.total_seconds() if age else 0))
    yield from (owed, oldest)


def _of_subscriptions(rows: Sequence[Subscription]) -> Iterator[Family]:
    paused = Family("outbox_handler_paused", "gauge", "1: a person paused it.", ("handler",))
    known = Family(
        "outbox_handler_known", "gauge", "0: the code of the last migrate has no such handler.",
        ("handler",),
    )  # fmt: skip
    opened = Family(
        "outbox_breaker_open", "gauge", "1: nothing is sent but probes.", ("handler", "event")
    )
    for handler in dict.fromkeys(row.handler for row in rows):
        mine = [row for row in rows if row.handler == handler]
        paused.samples.append(((handler,), any(row.paused_at for row in mine)))
        known.samples.append(((handler,), all(row.known for row in mine)))
    for row in rows:
        is_open = row.breaker_opened_at is not None
        opened.samples.append(((row.handler, row.event), is_open))
    yield from (paused, known, opened)


def _of_events(found: Status) -> Iterator[Family]:
    age = found.age(found.oldest_waiting)
    waiting = Family("outbox_waiting_events", "gauge", "Events that wait for fan-out.")
    waiting.samples.append(((), found.waiting_events))
    oldest = Family(
        "outbox_oldest_waiting_seconds", "gauge", "Age of the oldest of these; 0: none."
    )
    oldest.samples.append(((), age.total_seconds() if age else 0))
    yield from (waiting, oldest)


def _of_heartbeats(queues: set[str], *, using: str) -> Iterator[Family]:
    parts = Family(
        "outbox_last_seen_seconds", "gauge", "Since the latest sign of life; +Inf: none.", ("part",)
    )
    found = Heartbeats(using=using)
    for kind in (Heartbeat.Kind.RELAY, Heartbeat.Kind.BEAT):
        parts.samples.append(((kind.value,), _age(found.latest(kind))))
    workers = Family(
        "outbox_worker_last_seen_seconds",
        "gauge",
        "Since a worker of the queue was seen; +Inf: none was.",
        ("queue",),
    )
    for queue in sorted(queues):
        workers.samples.append(((queue,), _age(found.latest(Heartbeat.Kind.WORKER, queue=queue))))
    yield from (parts, workers)


def _age(seen: LastSeen) -> float:
    return max(0.0, (clock.now() - seen.at).total_seconds()) if seen.at else NEVER


def _counted(*, using: str) -> Iterator[Family]:
    by_name: dict[str, dict[str, dict[str, float]]] = {}
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
    total, buckets = 0.0, []
    for bound in [*(str(float(bound)) for bound in one.bounds), "+Inf"]:
        total += parts.get(bound, 0)
        buckets.append((bound, total))
    family.buckets.append(((label,)[: len(one.labels)], buckets, parts.get(SUM, 0)))
