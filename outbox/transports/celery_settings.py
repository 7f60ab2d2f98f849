"""What the outbox needs of Celery, applied to its own tasks, messages and connections only.

The settings of the project's Celery app stay in force for all other tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery, shared_task
from kombu import Connection, Queue

from outbox.lost_hosts import rabbitmq_options, redis_options

from .base import QUEUE

#: Prefix of the outbox's tasks.
PREFIX = "outbox."

#: Seconds after which Celery kills the process of a message. Handlers have time limits of their
#: own; this one ends a process that does not react to them.
_TASK_SECONDS = 5 * 3600

#: Options of the outbox's tasks. Each replaces a setting of the app that would apply otherwise.
TASK_OPTIONS: Mapping[str, Any] = {
    "acks_late": True,
    "acks_on_failure": True,
    "acks_on_failure_or_timeout": True,
    "acks_on_timeout": True,
    "ignore_result": True,
    "rate_limit": 0,
    "reject_on_worker_lost": False,
    "retry_on_worker_lost": False,
    "serializer": "json",
    "soft_time_limit": _TASK_SECONDS,
    "store_errors_even_if_ignored": False,
    "time_limit": _TASK_SECONDS,
    "track_started": False,
}

#: Entries of beat, unless the project schedules the same tasks itself.
_SCHEDULE: Mapping[str, Mapping[str, Any]] = {
    "outbox.relay": {"task": "outbox.relay", "schedule": 10.0, "options": {"queue": QUEUE}},
    "outbox.prune": {"task": "outbox.prune", "schedule": 300.0, "options": {"queue": QUEUE}},
}


def _apply_options(task: Any, _app: Celery) -> None:
    """Set the options again after `task_annotations` of the app, which may name all tasks."""
    for name, value in TASK_OPTIONS.items():
        setattr(task, name, value)


def own_task(name: str) -> Callable[[Callable[..., None]], Any]:
    """Return a decorator that makes a function a task of the outbox, with the options above."""
    decorate: Callable[[Callable[..., None]], Any] = shared_task(
        name=name, on_bound=classmethod(_apply_options), **TASK_OPTIONS
    )
    return decorate


def is_own(task: Any) -> bool:
    """Return whether a task belongs to the outbox."""
    return bool(task) and str(getattr(task, "name", "")).startswith(PREFIX)


def add_schedule(conf: Any) -> None:
    """Add the outbox's entries to the schedule of beat, unless the project has them."""
    known = {str(entry.get("task")) for entry in conf.beat_schedule.values()}
    ours = {name: dict(entry) for name, entry in _SCHEDULE.items() if entry["task"] not in known}
    if ours:
        conf.beat_schedule = {**conf.beat_schedule, **ours}


def own_connection(app: Celery, *, is_for_reading: bool = False) -> Connection:
    """Return a new connection to the app's broker with the timeouts that the outbox needs.

    Publishing to a frozen broker then fails instead of hanging, and RabbitMQ confirms each message.
    The project's own values have priority, except for values with which a confirm that never comes
    would be awaited for ever: no time limit for an answer, and heartbeats. RabbitMQ's heartbeats
    begin that time limit again, and nothing sends the answers to them here.
    """
    connect = app.connection_for_read if is_for_reading else app.connection_for_write
    given = app.conf.broker_transport_options or {}
    connection = connect()
    kind = connection.transport.driver_type
    ours: dict[str, Any] = {}
    if kind == "redis":
        ours = redis_options(master_name=str(given.get("master_name") or ""))
    elif kind == "amqp":
        ours = rabbitmq_options(nodes=_number_of_hosts(connection))
        if not given.get("read_timeout"):
            given = {**given, "read_timeout": ours["read_timeout"]}
        given = {**given, "heartbeat": 0}  # also against one in the URL
    return connect(transport_options={**ours, **given})


def connect_once(connection: Connection) -> None:
    """Connect to the first host of the broker's URLs that answers; try each of them once.

    Raises:
        OperationalError: no host answers.
    """
    hosts = _number_of_hosts(connection)
    if hosts == 1:
        connection.ensure_connection(max_retries=1, timeout=1)
    else:
        connection.ensure_connection(max_retries=hosts - 1)


def _number_of_hosts(connection: Connection) -> int:
    return len(connection.alt) or 1


def queue_of(app: Celery, name: str) -> Queue:
    """Return the app's queue of this name, also if `task_create_missing_queues` is off.

    It is of the producer's type, quorum or classic: a broker refuses two types under one name.
    """
    known = app.amqp.queues
    if name not in known:
        known.add(known.new_missing(name))
    return known[name]


def address(queue: Queue) -> dict[str, Any]:
    """Return the options of a message to this queue, which no entry of `task_routes` changes."""
    exchange = queue.exchange
    if exchange.type == "direct":
        return {"queue": queue, "exchange": "", "routing_key": queue.name}
    return {"queue": queue, "exchange": exchange.name, "routing_key": queue.routing_key}
