"""The outbox in your Celery app: `install(app)`.

    app = Celery("yourproject")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks()
    install(app)

`OutboxTask` is a base of tasks that are sent if and only if the caller's transaction commits:

    @shared_task(base=OutboxTask)
    def send_label(parcel_id: int) -> None: ...

Import this module only where you create the Celery app and declare tasks. Nothing else of the
outbox needs Celery.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, signals
from kombu.transport import TRANSPORT_ALIASES

from outbox.celery_tasks import context
from outbox.celery_tasks.task import OutboxTask
from outbox.counting.buffer import write_all
from outbox.transports import celery_connections, celery_settings
from outbox.transports.celery_app import MARK, has_outbox
from outbox.transports.celery_worker import (
    AcknowledgeStep,
    AlertsStep,
    HeartbeatStep,
    NudgeStep,
    PoolStep,
    RelayStep,
    TimerStep,
    all_queues,
)

__all__ = ["OutboxTask", "install"]


def install(app: Celery) -> None:
    """Add the outbox's tasks, queues and relay, and its entries of beat, to a Celery app.

    Call it once, in the module that creates your Celery app. A worker without `-Q` then consumes
    every handler's queue and runs the relay. With `-Q outbox` it runs only the relay.

    Your settings of Celery stay in force for your tasks and queues. The outbox's tasks have options
    of their own. `manage.py check` names settings that would break a guarantee.
    """
    TRANSPORT_ALIASES["sqs"] = "outbox.transports.celery_sqs:Transport"
    app.add_defaults(lambda: {"worker_consumer": "outbox.transports.celery_consumer:Consumer"})
    app.autodiscover_tasks(["outbox"])
    app.steps["worker"].update([PoolStep, RelayStep, HeartbeatStep, AlertsStep])
    app.steps["consumer"].update([NudgeStep, AcknowledgeStep, TimerStep])
    setattr(app, MARK, True)
    _when_configured(app)
    signals.celeryd_init.connect(_add_queues, weak=False, dispatch_uid="outbox.queues")
    celery_connections.watch()
    # `worker -B` sends this signal, too, and then another one.
    signals.beat_init.connect(_prepare_beat, weak=False, dispatch_uid="outbox.beat")
    signals.task_prerun.connect(context.begin, weak=False, dispatch_uid="outbox.begin")
    signals.task_postrun.connect(context.end, weak=False, dispatch_uid="outbox.end")
    for ending in (signals.worker_process_shutdown, signals.worker_shutdown):
        ending.connect(_store_counts, weak=False, dispatch_uid="outbox.counts")


def _prepare_beat(*, sender: Any, **_kwargs: Any) -> None:
    """Let beat connect again to a broker, and write its heartbeats: it runs no task of its own."""
    app = getattr(sender, "app", None)
    if app is not None and not has_outbox(app):
        return
    if app is not None:
        # Beat publishes on one connection, which only a retry renews: without it, and with AMQP,
        # beat sends nothing more after its connection is lost. All else here has `retry=False`.
        app.conf.task_publish_retry = True
    from outbox.deliveries.heartbeat import own_name, threads  # needs the models
    from outbox.models import Heartbeat

    threads(own_name(), list, kind=Heartbeat.Kind.BEAT).start()


def _when_configured(app: Celery) -> None:
    """Add the schedule as soon as the settings are read, which also happens before this call."""
    if vars(app).get("configured"):  # the stubs lack it
        celery_settings.add_schedule(app.conf)
    else:
        app.on_after_configure.connect(_add_schedule, weak=False)


def _add_schedule(*, source: Any, **_kwargs: Any) -> None:
    celery_settings.add_schedule(source)


def _add_queues(*, instance: Any, **_kwargs: Any) -> None:
    """Add the handlers' queues after `django.setup()`, before the worker chooses its queues."""
    if not getattr(instance.app, MARK, False):
        return
    for name in sorted(all_queues()):
        instance.app.amqp.queues.select_add(celery_settings.queue_of(instance.app, name))


def _store_counts(**_kwargs: Any) -> None:
    """Store the counts of a worker's process before it ends."""
    write_all()
