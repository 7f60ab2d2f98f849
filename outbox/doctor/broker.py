"""Findings about the broker: whether it answers, and whether it keeps its messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from celery import current_app

from .findings import Finding, error, ok, warning

_PART = "broker"
_FULL = 0.8


def examine() -> Iterator[Finding]:
    """Connect to the broker, and examine its settings."""
    try:
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=1)
            channel: Any = connection.default_channel
            where, kind = connection.as_uri(), connection.transport.driver_type
            facts = channel.client.info() if kind == "redis" else {}
    except Exception as caught:
        yield error(
            _PART,
            f"The broker does not answer: {type(caught).__name__}: {caught}.",
            "Start it, or correct its address. Nothing is lost: events wait in the database.",
        )
        return
    yield ok(_PART, f"It answers at {where}.")
    if kind == "redis":
        yield from of_redis(facts)
    else:
        yield from _of_rabbitmq()


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
