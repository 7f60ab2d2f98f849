"""The steps that `outbox.celery.install` adds to Celery's workers.

`RelayStep` keeps the relay's threads. `NudgeStep` consumes nudges on the worker's own broker
connection, in the main process. So neither a busy pool nor a full queue delays them. A broker
without fanout, such as SQS, carries none. `HeartbeatStep` stores the worker's heartbeat.
`AlertsStep` sends alerts. `AcknowledgeStep` acknowledges long-running messages. `TimerStep` removes
cancelled timers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from celery import bootsteps, concurrency
from celery.worker import state
from django.core.exceptions import ImproperlyConfigured
from kombu import Consumer
from kombu.asynchronous.timer import Timer

from outbox.subscriptions import queues

from .base import QUEUE, Helper, Relay
from .celery_broker import TASK, has_fanout, nudge_queue

logger = logging.getLogger("outbox.worker")

#: Celery's pools of greenlets, by the names of their modules.
GREEN_POOLS = ("gevent", "eventlet")

#: Seconds after which an unfinished message is acknowledged, and seconds between two checks.
#: RabbitMQ's shortest sensible `consumer_timeout` is a minute, its default 30 minutes.
ACKNOWLEDGE_AFTER_SECONDS = 300.0
CHECK_SECONDS = 15.0
#: Seconds between two removals of cancelled timers.
TIMERS_SECONDS = 15.0


def all_queues() -> set[str]:
    """Return the queues of the relay and of the installed handlers."""
    return {QUEUE}.union(*queues().values())


class RelayStep(bootsteps.StartStopStep):
    """Keeps the relay's threads in the worker's main process.

    Attributes:
        build: builds the relay of the worker with this name. `outbox.tasks` sets it, because a
            transport imports neither relay nor worker.
    """

    build: ClassVar[Callable[[str], Relay]]

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        worker.outbox_relay = None

    def include_if(self, worker: Any) -> bool:
        """Only where the queue `outbox` is consumed."""
        return QUEUE in worker.app.amqp.queues.consume_from

    def start(self, worker: Any) -> None:
        """Start the relay's loop."""
        worker.outbox_relay = type(self).build(worker.hostname)
        worker.outbox_relay.start()

    def stop(self, worker: Any) -> None:
        """Stop after the current pass."""
        if worker.outbox_relay is not None:
            worker.outbox_relay.stop()

    def terminate(self, worker: Any) -> None:
        """As stop()."""
        self.stop(worker)


class PoolStep(bootsteps.StartStopStep):
    """Refuses a pool in which a handler's time limit has no effect."""

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        kind = concurrency.get_implementation(worker.pool_cls).__module__.rpartition(".")[2]
        ours = sorted(set(worker.app.amqp.queues.consume_from) & all_queues())
        if kind in GREEN_POOLS and ours:
            raise ImproperlyConfigured(
                f"A worker with --pool {kind} cannot consume {', '.join(ours)}: the time limits of "
                "the outbox's handlers have no effect between greenlets, so one handler that hangs "
                "stops them all. Use --pool prefork, threads or solo for these queues, or leave "
                "them out of this worker's -Q."
            )


class HeartbeatStep(bootsteps.StartStopStep):
    """Stores a heartbeat every few seconds, with the queues that this worker consumes."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        worker.outbox_heartbeat = None

    def start(self, worker: Any) -> None:
        """Start the heartbeat's thread."""
        from outbox.deliveries import heartbeat  # needs the models

        consumed = worker.app.amqp.queues
        worker.outbox_heartbeat = heartbeat.threads(
            worker.hostname, lambda: list(consumed.consume_from)
        )
        worker.outbox_heartbeat.start()

    def stop(self, worker: Any) -> None:
        """Stop the thread."""
        if worker.outbox_heartbeat is not None:
            worker.outbox_heartbeat.stop()

    def terminate(self, worker: Any) -> None:
        """As stop()."""
        self.stop(worker)


class AlertsStep(bootsteps.StartStopStep):
    """Runs the thread that sends alerts in the worker's main process, if alerts are on.

    Attributes:
        build: builds the thread, or returns None. `outbox.tasks` sets it, because a transport
            imports no alerts.
    """

    build: ClassVar[Callable[[], Helper | None]]

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        worker.outbox_alerts = None

    def start(self, worker: Any) -> None:
        """Start the thread."""
        worker.outbox_alerts = type(self).build()
        if worker.outbox_alerts is not None:
            worker.outbox_alerts.start()

    def stop(self, worker: Any) -> None:
        """Stop the thread."""
        if worker.outbox_alerts is not None:
            worker.outbox_alerts.stop()

    def terminate(self, worker: Any) -> None:
        """As stop()."""
        self.stop(worker)


class NudgeStep(bootsteps.ConsumerStep):
    """Consumes nudges on the worker's broker connection and nudges the relay."""

    requires = ("celery.worker.consumer:Tasks",)

    def include_if(self, consumer: Any) -> bool:
        """Only where the relay runs, and only with a broker that has fanout."""
        is_relay = QUEUE in consumer.app.amqp.queues.consume_from
        return is_relay and has_fanout(consumer.app.connection_for_read())

    def get_consumers(self, channel: Any) -> list[Consumer]:
        """Return the consumer of this worker's nudge queue."""
        return [
            Consumer(channel, [nudge_queue(self.hostname)], callbacks=[self._nudge], no_ack=True)
        ]

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self.hostname = consumer.hostname
        self._worker = consumer.controller

    def _nudge(self, _body: Any, _message: Any) -> None:
        if self._worker.outbox_relay is not None:
            self._worker.outbox_relay.nudge()


class AcknowledgeStep(bootsteps.StartStopStep):
    """Acknowledges long-running messages before the broker repeats them or closes the consumer.

    Celery acknowledges the outbox's messages when they are done (`acks_late`), so a worker that
    ends loses none. But RabbitMQ closes the channel of a consumer that does not acknowledge for
    half an hour (`consumer_timeout`), and this ends the worker. Redis and SQS send the message
    again. A message that is some minutes old no longer needs the broker. The leases of its
    deliveries are in the database, so a relay sends the deliveries of a dead worker again.

    It runs in the worker's main process. In the pool `solo` it cannot check, because the main
    process runs the message itself.
    """

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._seen: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Start the repeated check."""
        every = min(CHECK_SECONDS, ACKNOWLEDGE_AFTER_SECONDS)
        self._timer = consumer.timer.call_repeatedly(every, self.acknowledge_old)

    def stop(self, consumer: Any) -> None:
        """Stop the check."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def acknowledge_old(self) -> None:
        """Acknowledge the messages that were received `ACKNOWLEDGE_AFTER_SECONDS` ago or more."""
        now = time.monotonic()
        for request in list(state.reserved_requests):
            if request.name != TASK or request.acknowledged:
                continue
            if now - self._seen.setdefault(request, now) >= ACKNOWLEDGE_AFTER_SECONDS:
                request.acknowledge()


class TimerStep(bootsteps.StartStopStep):
    """Removes the time limits of finished messages from the timer of the worker's main process.

    The prefork pool has a timer for the time limit of each task. Celery cancels it when the task is
    done, but kombu keeps a cancelled timer until its time. The limit of the outbox's tasks is
    hours, so the process would grow by about 600 bytes with each message of that time
    (celery/celery#5200). This also removes those of the project's own tasks.
    """

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._entry: Any = None

    def start(self, consumer: Any) -> None:
        """Start the repeated removal, if the pool is prefork, which sets such timers."""
        # Not a subclass: those of gevent and eventlet keep greenlets, and `clear` kills them.
        if type(consumer.timer) is Timer:
            remove = partial(self._remove, consumer)
            self._entry = consumer.timer.call_repeatedly(TIMERS_SECONDS, remove)

    def _remove(self, consumer: Any) -> None:
        try:
            remove_cancelled(consumer.timer)
        except Exception as error:
            self.stop(consumer)  # the next removal would fail, too
            logger.warning(
                "The worker's finished time limits cannot be removed (%s: %s), and are kept until "
                "their time. So its main process grows with each message. Restart the worker. If "
                "this repeats, install a release of kombu that this outbox supports.",
                type(error).__name__,
                error,
            )

    def stop(self, consumer: Any) -> None:
        """Stop the removal."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None


def remove_cancelled(timer: Timer) -> None:
    """Remove the cancelled entries of a timer. Call it only in the thread of its event loop."""
    entries = timer.queue  # a copy
    timer.clear()
    for eta, priority, entry in entries:
        if not entry.canceled:
            timer.enter_at(entry, eta, priority)
