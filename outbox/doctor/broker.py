"""Findings about Celery: its settings, and whether its broker answers and keeps messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from celery import current_app

from outbox.models import Subscription
from outbox.transports.sqs import DEFAULT_VISIBILITY

from .findings import Finding, error, ok, warning
from .sqs import examine_queues

_PART = "broker"
_SETTINGS = "settings"
_FULL = 0.8


def examine_broker() -> Iterator[Finding]:
    """Connect to the broker, and examine how it stores messages."""
    try:
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=1)
            channel = connection.default_channel
            where, kind = connection.as_uri(), connection.transport.driver_type
            found = _of_channel(channel, kind)
    except Exception as caught:
        yield error(
            _PART,
            f"The broker does not answer: {type(caught).__name__}: {caught}.",
            "Start it, or correct its address. Nothing is lost: events wait in the database.",
        )
        return
    yield ok(_PART, f"It answers at {where}.")
    yield from found


def _of_channel(channel: Any, kind: str) -> list[Finding]:
    """Examine a broker of this kind; some answer over the channel."""
    if kind == "redis":
        return list(of_redis(channel.client.info()))
    if kind == "sqs":
        return list(examine_queues(channel))
    return list(_of_rabbitmq())


def of_redis(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Examine the output of INFO of Redis or Valkey."""
    policy = str(facts.get("maxmemory_policy", "unknown"))
    most, used = int(facts.get("maxmemory", 0)), int(facts.get("used_memory", 0))
    if most and policy not in ("noeviction", "unknown"):
        yield error(
            _PART,
            f"It evicts messages when its memory is full (maxmemory-policy {policy}).",
            "Set maxmemory-policy noeviction. Evicted deliveries are sent again after their lease.",
        )
    elif most and used > most * _FULL:
        yield warning(
            _PART,
            f"{used / most:.0%} of its memory is used. When it is full, it accepts no message.",
            "Raise maxmemory, or find out which other programs use it.",
        )
    else:
        yield ok(_PART, f"It evicts no message (maxmemory-policy {policy}).")
    if facts.get("aof_enabled"):
        yield ok(_PART, "It writes messages to disk (append-only file).")
    else:
        yield warning(
            _PART,
            "It loses its messages when it restarts (no append-only file).",
            "Set appendonly yes. Without it, each restart delays deliveries by their lease.",
        )
    if facts.get("role") == "slave":
        yield error(
            _PART, "It is a replica, and accepts no message.", "Configure the primary instead."
        )


def _of_rabbitmq() -> Iterator[Finding]:
    kind = current_app.conf.get("task_default_queue_type") or "classic"
    if kind == "quorum":
        yield ok(_PART, "Queues are declared as quorum queues.")
    else:
        yield warning(
            _PART,
            f"Queues are declared as {kind} queues, which are stored on one node.",
            'In a cluster, set task_default_queue_type = "quorum". Lost deliveries are sent again.',
        )
    options = current_app.conf.broker_transport_options or {}
    if not options.get("confirm_publish"):
        yield warning(
            _PART,
            "Publishing is not confirmed: messages that RabbitMQ refuses count as sent.",
            'Set broker_transport_options = {"confirm_publish": True}.',
        )


def examine_settings(*, using: str) -> Iterator[Finding]:
    """Examine visibility timeout, acks, prefetch and serializer."""
    found = [*_acks(), *_prefetch(), *_serializer(), *_visibility(using=using)]
    yield from found or [
        ok(_SETTINGS, "Acks, prefetch, serializer and visibility timeout are safe.")
    ]


def _acks() -> Iterator[Finding]:
    conf = current_app.conf
    if conf.task_reject_on_worker_lost:
        yield error(
            _SETTINGS,
            "task_reject_on_worker_lost is on: a task that kills its worker is repeated forever.",
            "Turn it off. The deliveries of a killed worker are sent again after their lease.",
        )
    if not conf.task_acks_late:
        yield warning(
            _SETTINGS,
            "task_acks_late is off: tasks other than the outbox's are lost with their worker.",
            "Set task_acks_late = True.",
        )


def _prefetch() -> Iterator[Finding]:
    prefetch = current_app.conf.worker_prefetch_multiplier
    if prefetch != 1:
        yield warning(
            _SETTINGS,
            f"worker_prefetch_multiplier is {prefetch}: a busy worker reserves tasks of idle ones.",
            "Set worker_prefetch_multiplier = 1.",
        )


def _serializer() -> Iterator[Finding]:
    conf = current_app.conf
    if conf.task_serializer != "json" or set(conf.accept_content) - {"json", "application/json"}:
        yield error(
            _SETTINGS,
            f"Workers accept {', '.join(conf.accept_content)}. With pickle, everyone with "
            "write access to the broker can run code in them.",
            'Set task_serializer = "json" and accept_content = ["json"].',
        )


#: Brokers that send an unacknowledged message again: scheme, name, and Celery's default in seconds.
_REDELIVERING = {
    "redis": ("Redis", 3600),
    "rediss": ("Redis", 3600),
    "sentinel": ("Redis", 3600),
    "sqs": ("SQS", DEFAULT_VISIBILITY),
}


def _visibility(*, using: str) -> Iterator[Finding]:
    options = current_app.conf.broker_transport_options or {}
    scheme = str(current_app.conf.broker_url).partition(":")[0]
    if scheme not in _REDELIVERING:
        return
    broker, default = _REDELIVERING[scheme]
    timeout = float(options.get("visibility_timeout", default))
    limit = current_app.conf.task_time_limit
    leases = Subscription.objects.using(using).values_list("lease_seconds", flat=True)
    longest = max(leases, default=0.0)
    if limit is None or timeout <= limit:
        yield warning(
            _SETTINGS,
            f"{broker} redelivers a message after {timeout:g} s, while its task may still run "
            f"(task_time_limit {limit if limit is not None else 'none'}).",
            "Set task_time_limit, and visibility_timeout above it. The outbox's deliveries do not "
            "run twice, but other tasks may.",
        )
    if timeout <= longest:
        yield warning(
            _SETTINGS,
            f"The longest lease ({longest:g} s) is longer than the visibility timeout "
            f"({timeout:g} s).",
            "Raise visibility_timeout above it.",
        )
