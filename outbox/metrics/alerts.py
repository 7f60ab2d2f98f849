"""Alert rules for Prometheus, generated from the code's handlers and queues."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from outbox.subscriptions import Handler
from outbox.transports.celery import QUEUE

#: Maximum age of an owed event in seconds, above the handler's lease.
AGE = 300.0

_HEAD = """\
# Written by `manage.py outbox alerts`; change it there. Load it by `rule_files` of Prometheus.
groups:
- name: outbox
  rules:
"""
_WAITING = "pending|sent|blocked"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One rule.

    Attributes:
        name: name in Prometheus and in the message.
        when: PromQL expression.
        lasts: how long it must hold before it fires.
        severity: "page": act now; "ticket": act today.
        about: label that distinguishes this rule from others of its name.
        says: summary; may use `$labels` and `$value`.
        advice: what to do.
    """

    name: str
    when: str
    lasts: str = "0m"
    severity: str = "page"
    about: tuple[str, str] | None = None
    says: str
    advice: str


#: The project's own rules, by name.
_registered: dict[str, Alert] = {}


def also(*alerts: Alert) -> None:
    """Register the project's own rules, for metrics other than the outbox's.

    Call it in an AppConfig's `ready()`. A rule replaces a registered one of the same name.
    """
    _registered.update({alert.name: alert for alert in alerts})


def alert_rules(handlers: Iterable[Handler], *, age: float = AGE) -> str:
    """Return a rules file: the general rules, and an age limit for each handler.

    Args:
        handlers: all handlers of the code.
        age: maximum age of an owed event in seconds, above the handler's lease.
    """
    return _HEAD + "".join(_as_yaml(alert) for alert in _alerts(list(handlers), age=age))


def _alerts(handlers: list[Handler], *, age: float) -> Iterator[Alert]:
    yield from _ALWAYS
    yield from _registered.values()
    for handler in sorted(handlers, key=lambda one: one.name):
        yield _too_old(handler, age=age)
    for queue in sorted({QUEUE, *(handler.queue for handler in handlers)}):
        yield _without_worker(queue)


def _too_old(handler: Handler, *, age: float) -> Alert:
    limit = age + handler.lease
    series = f'outbox_oldest_owed_seconds{{handler="{handler.name}",state=~"{_WAITING}"}}'
    return Alert(
        name="OutboxOwedForLong",
        when=f"max by (handler) ({series}) > {limit:g}",
        lasts="1m",
        about=("handler", handler.name),
        says=f"{handler.name} is owed an event that is {{{{ $value | humanizeDuration }}}} old.",
        advice="manage.py outbox status; then why, of one of its deliveries.",
    )


def _without_worker(queue: str) -> Alert:
    return Alert(
        name="OutboxQueueWithoutWorker",
        when=f'min by (queue) (outbox_worker_last_seen_seconds{{queue="{queue}"}}) > 60',
        lasts="1m",
        about=("queue", queue),
        says=f"No worker of the queue {queue} was seen for a minute.",
        advice=f"Start a Celery worker with -Q {queue}.",
    )


_ALWAYS = (
    Alert(
        name="OutboxMetricsMissing",
        when="absent(outbox_waiting_events)",
        lasts="3m",
        says="Nobody tells how the outbox is.",
        advice="See whether the web answers at /metrics, and whether the token is right.",
    ),
    Alert(
        name="OutboxDead",
        when='sum by (handler) (outbox_owed{state="dead"}) > 0',
        severity="ticket",
        says="{{ $value }} deliveries to {{ $labels.handler }} are dead.",
        advice="manage.py outbox groups shows of what, and how to retry them.",
    ),
    Alert(
        name="OutboxNotFannedOut",
        when="max(outbox_oldest_waiting_seconds) > 60",
        lasts="1m",
        says="An event waits for the relay for {{ $value | humanizeDuration }}.",
        advice="manage.py outbox doctor.",
    ),
    Alert(
        name="OutboxPartNotSeen",
        when="min by (part) (outbox_last_seen_seconds) > 60",
        lasts="1m",
        says="{{ $labels.part }} was not seen for {{ $value | humanizeDuration }}.",
        advice="Start it; while the relay is away, nothing is sent.",
    ),
    Alert(
        name="OutboxBreakerOpen",
        when="max by (handler) (outbox_breaker_open) > 0",
        lasts="5m",
        severity="ticket",
        says="{{ $labels.handler }} is held: what it calls is down.",
        advice="See the other side; it goes on by itself when a probe is answered.",
    ),
    Alert(
        name="OutboxHandlerPaused",
        when="max by (handler) (outbox_handler_paused) > 0",
        lasts="1h",
        severity="ticket",
        says="{{ $labels.handler }} is paused for an hour.",
        advice=(
            "manage.py outbox status says why. Paused by a person or a rule: manage.py outbox "
            "resume it when the reason is gone. Held by its backfill: do not resume it; manage.py "
            "outbox go-on the backfill's operation if its process was killed."
        ),
    ),
    Alert(
        name="OutboxHandlerUnknown",
        when="min by (handler) (outbox_handler_known) < 1",
        lasts="15m",
        severity="ticket",
        says="The deployed code does not have {{ $labels.handler }}.",
        advice="Deploy a release that has it, or manage.py outbox end it.",
    ),
    Alert(
        name="OutboxWorkersDie",
        when='sum by (handler) (increase(outbox_attempts_total{outcome="died"}[15m])) > 0',
        severity="ticket",
        says="Workers died in {{ $labels.handler }}.",
        advice="See its deliveries' attempts, and the machine's log: memory?",
    ),
)


def _as_yaml(alert: Alert) -> str:
    """Return one rule as YAML; a JSON string is valid YAML."""
    labels = dict([("severity", alert.severity), *([alert.about] if alert.about else [])])
    return f"""\
  - alert: {alert.name}
    expr: {json.dumps(alert.when)}
    for: {alert.lasts}
    labels: {json.dumps(labels)}
    annotations:
      summary: {json.dumps(alert.says)}
      description: {json.dumps(alert.advice)}
"""
