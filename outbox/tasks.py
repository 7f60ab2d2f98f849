"""Celery tasks: thin wrappers around the relay, the worker, pruning and the canary."""

from __future__ import annotations

from datetime import datetime, timedelta

from celery import current_app, current_task, shared_task

from . import clock, nudge, operations
from .conf import conf
from .counting import minutes
from .deliveries import heartbeat
from .relay.passes import BrokerUnavailable, Message, relay_pass
from .worker.delivery import deliver

_PRUNING = timedelta(seconds=2)


@shared_task(name="outbox.deliver", ignore_result=True, acks_late=True)
def deliver_message(
    handler: str,
    pairs: list[list[int]],
    refill: bool = False,
    subscription: int | None = None,
    **_later: object,
) -> None:
    """Run one handler for the deliveries of one message.

    Two releases run during a deploy. So unknown arguments of a newer one are ignored, and an older
    one sends no subscription.
    """
    worker = current_task.request.hostname or "unknown"
    ended = deliver(
        handler_name=handler,
        pairs=[(id, token) for id, token in pairs],
        worker=worker,
        subscription=subscription,
    )
    minutes.note(handler, ended)
    if refill:
        nudge.poke()


@shared_task(name="outbox.relay", ignore_result=True)
def run_relay() -> None:
    """Run one pass of the relay. Beat sends this as a fallback for the relay's own waiting loop.

    Its arrival is the heartbeat of beat and of the broker.
    """
    heartbeat.beat(heartbeat.Kind.BEAT, "beat")
    heartbeat.beat(heartbeat.Kind.BROKER, "beat")
    try:
        relay_pass(  # one: a task must end
            publish=publish, report=lambda plan: minutes.note_events(plan.fanned_out)
        )
    except BrokerUnavailable:
        return  # the loop and the next task try again; nothing is lost


@shared_task(name="outbox.prune", ignore_result=True)
def prune_old_events() -> None:
    """Prune by `OUTBOX["RETENTION"]`, if it is set. Beat sends this every five minutes.

    It is short, because the relay's worker receives no nudges meanwhile. The next run continues.
    """
    if conf().RETENTION:
        operations.prune(at_most=_PRUNING, by="outbox.prune")


def publish(message: Message) -> None:
    """Send one message to the broker, without a retry: the relay retries from the database."""
    deliver_message.apply_async(
        args=(message.handler, message.pairs),
        kwargs={"subscription": message.subscription, "refill": message.refill},
        queue=message.queue,
        retry=False,
        argsrepr=f"({message.handler!r}, {len(message.pairs)} deliveries)",  # type: ignore[call-arg]
    )


@shared_task(name="outbox.canary", ignore_result=True)
def answer_canary(name: str, until: str) -> None:
    """Answer the doctor, if it still waits, to prove that a worker consumes this queue."""
    if clock.now() <= datetime.fromisoformat(until):
        heartbeat.answer(name)


def send_canary(queue: str, name: str, *, expires: float) -> None:
    """Send a canary through a queue. It is void if no worker takes it within `expires` seconds."""
    # Celery's own `expires` compares the clocks of two hosts.
    until = clock.now() + timedelta(seconds=expires)
    answer_canary.apply_async(args=(name, until.isoformat()), queue=queue, retry=False)


def is_broker_there() -> bool:
    """Return whether the broker answers within the transport's socket timeout."""
    try:
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=1)
            connection.default_channel  # noqa: B018  opening the channel is the round trip
    except Exception:
        return False
    return True
