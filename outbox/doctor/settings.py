"""Findings about Celery's settings, compared with what the outbox needs."""

from __future__ import annotations

from collections.abc import Iterator

from celery import current_app

from outbox.models import Subscription

from .findings import Finding, error, ok, warning

_PART = "settings"


def examine(*, using: str) -> Iterator[Finding]:
    """Examine visibility timeout, acks, prefetch and serializer."""
    found = [*_acks(), *_prefetch(), *_serializer(), *_visibility(using=using)]
    yield from found or [ok(_PART, "Acks, prefetch, serializer and visibility timeout are safe.")]


def _acks() -> Iterator[Finding]:
    conf = current_app.conf
    if conf.task_reject_on_worker_lost:
        yield error(
            _PART,
            "task_reject_on_worker_lost is on: a task that kills its worker is repeated forever.",
            "Turn it off. The deliveries of a killed worker are sent again after their lease.",
        )
    if not conf.task_acks_late:
        yield warning(
            _PART,
            "task_acks_late is off: tasks other than the outbox's are lost with their worker.",
            "Set task_acks_late = True.",
        )


def _prefetch() -> Iterator[Finding]:
    prefetch = current_app.conf.worker_prefetch_multiplier
    if prefetch != 1:
        yield warning(
            _PART,
            f"worker_prefetch_multiplier is {prefetch}: a busy worker reserves tasks of idle ones.",
            "Set worker_prefetch_multiplier = 1.",
        )


def _serializer() -> Iterator[Finding]:
    conf = current_app.conf
    if conf.task_serializer != "json" or set(conf.accept_content) - {"json", "application/json"}:
        yield error(
            _PART,
            f"Workers accept {', '.join(conf.accept_content)}. With pickle, everyone with "
            "write access to the broker can run code in them.",
            'Set task_serializer = "json" and accept_content = ["json"].',
        )


def _visibility(*, using: str) -> Iterator[Finding]:
    options = current_app.conf.broker_transport_options or {}
    if not str(current_app.conf.broker_url).startswith(("redis", "rediss", "sentinel")):
        return
    timeout = float(options.get("visibility_timeout", 3600))
    limit = current_app.conf.task_time_limit
    leases = Subscription.objects.using(using).values_list("lease_seconds", flat=True)
    longest = max(leases, default=0.0)
    if limit is None or timeout <= limit:
        yield warning(
            _PART,
            f"Redis redelivers a message after {timeout:g} s, while its task may still run "
            f"(task_time_limit {limit if limit is not None else 'none'}).",
            "Set task_time_limit, and visibility_timeout above it. The outbox's deliveries do not "
            "run twice, but other tasks may.",
        )
    if timeout <= longest:
        yield warning(
            _PART,
            f"The longest lease ({longest:g} s) is longer than the visibility timeout "
            f"({timeout:g} s).",
            "Raise visibility_timeout above it.",
        )
