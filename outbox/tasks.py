"""Celery tasks, and the relay of a Celery worker: the only module that joins relay and worker."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from datetime import datetime, timedelta

from celery import current_app, current_task
from django.db import connections

from . import clock, databases, operations
from .alerts.watch import end_unwatched, watch
from .conf import conf
from .deliveries import heartbeat
from .deliveries.connections import drop
from .deliveries.transient_errors import why_unreachable
from .fork_safety import apart_from_forks
from .relay.loop import RelayLoop, Relays
from .relay.passes import relay_pass
from .relay.publishing import BrokerUnavailable
from .sources.forgetting import forget_received
from .transports.base import Helper
from .transports.celery_broker import TASK, CeleryTransport
from .transports.celery_settings import address, own_task, queue_of
from .transports.celery_worker import AlertsStep, RelayStep
from .transports.inline import InlineTransport
from .transports.nudge import nudge
from .worker.delivery import deliver, deliver_started

logger = logging.getLogger("outbox.delivery")

_PRUNING = timedelta(seconds=2)
_UNLISTED = (
    'A message of %s is for the database %s, which OUTBOX["DATABASES"] of this worker does not '
    "list. Its deliveries are sent again when their leases expire. Run workers and relays with the "
    "same list."
)


@own_task(TASK)
def deliver_message(
    handler: str,
    pairs: list[list[int]],
    refill: bool = False,
    subscription: int | None = None,
    database: str = "",
    pairs_there: list[list[int]] | None = None,
    **_later: object,
) -> None:
    """Run one handler for the deliveries of one message.

    Two releases run during a deploy. So unknown arguments of a newer one are ignored, and an older
    one sends no subscription. A message without a database is one of the default database.
    """
    using = database or databases.aliases()[0]
    if using not in databases.aliases():
        logger.error(_UNLISTED, handler, using)
        return
    deliver(
        handler_name=handler,
        pairs=[(id, token) for id, token in (pairs if pairs_there is None else pairs_there)],
        worker=current_task.request.hostname or "unknown",
        subscription=subscription,
        using=using,
    )
    if refill:
        nudge(using)


@own_task("outbox.relay")
def run_relay() -> None:
    """Run one pass of the relay. Beat sends this as a fallback for the relay's own waiting loop.

    Its arrival is the heartbeat of beat and of the broker.
    """
    databases.on_each(_relay_once)


def _relay_once() -> None:
    _require_answer()
    heartbeat.beat(heartbeat.Kind.BEAT, "beat")
    heartbeat.beat(heartbeat.Kind.BROKER, "beat")
    try:
        relay_pass(publish=CeleryTransport().dispatch)  # one: a task must end
    except BrokerUnavailable:
        return  # the loop and the next task try again; nothing is lost


@own_task("outbox.prune")
def prune_old_events() -> None:
    """Prune by `OUTBOX["RETENTION"]`, if it is set, and delete old ids of received messages.

    Alerts that no check watches end, too. Beat sends this every five minutes. It is short, because
    the relay's worker receives no nudges meanwhile. The next run continues.
    """
    databases.on_each(_prune)


def _prune() -> None:
    _require_answer()
    # A failure, such as a full disk, prevents none of the others. The stack calls the last first.
    with ExitStack() as others:
        others.callback(end_unwatched)
        others.callback(forget_received, at_most=_PRUNING)
        if conf().RETENTION:
            operations.prune(at_most=_PRUNING, by="outbox.prune")


def _require_answer() -> None:
    """Raise the error of a database that cannot be reached.

    Each further statement would wait for it again. Meanwhile the task occupies a process of the
    worker, and the other databases have to wait.
    """
    using = databases.alias()
    connection = connections[using]
    if connection.connection is not None and not connection.is_usable():  # a restart has ended it
        drop(connection)
    if (error := why_unreachable(using)) is not None:
        raise error


@own_task("outbox.canary")
def answer_canary(name: str, until: str, database: str | None = None) -> None:
    """Answer the doctor, if it still waits, to prove that a worker consumes this queue."""
    if clock.now(using=database) <= datetime.fromisoformat(until):
        heartbeat.answer(name, using=database)


def send_canary(queue: str, name: str, *, expires: float) -> None:
    """Send a canary through a queue. It is void if no worker takes it within `expires` seconds."""
    # Celery's own `expires` compares the clocks of two hosts.
    until = clock.now() + timedelta(seconds=expires)
    # A worker of an earlier release has two arguments, and works on the default database.
    database = databases.alias()
    more = {} if database == databases.aliases()[0] else {"database": database}
    answer_canary.apply_async(
        args=(name, until.isoformat()),
        kwargs=more,
        retry=False,
        **address(queue_of(current_app, queue)),
    )


def build_relay(name: str = "") -> Relays:
    """Return a relay of each database that dispatches by Celery, and runs inline deliveries itself.

    Args:
        name: the process's name in heartbeats and starts. Default: "host.pid".
    """
    name = name or heartbeat.own_name()
    return Relays({using: _relay_of(using, name) for using in databases.aliases()})


def _relay_of(using: str, name: str) -> RelayLoop:
    inline = InlineTransport(name, deliver_started)
    return RelayLoop(name, transport=CeleryTransport(), inline=inline, using=using)


def build_alerts() -> Helper | None:
    """Return the threads that send alerts, for a process that may fork; None if they are off."""
    return watch(around=apart_from_forks)


RelayStep.build = build_relay
AlertsStep.build = build_alerts
