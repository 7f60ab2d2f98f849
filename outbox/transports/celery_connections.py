"""Database connections of the outbox's tasks: kept between tasks, and dropped if old or broken.

Celery closes all connections before and after each task, unless the project sets
`CELERY_DB_REUSE_MAX`. A new connection costs more than most handlers. So the outbox's tasks keep
theirs, as long as `CONN_MAX_AGE` allows, or a minute if it is 0. Other tasks are treated as before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import current_task, signals
from celery.fixups.django import DjangoFixup
from django.db import connections
from django.db.backends.signals import connection_created

from outbox.deliveries.connections import drop
from outbox.deliveries.transient_errors import drop_broken_connection

from .celery_settings import is_own

logger = logging.getLogger("outbox.worker")

#: Seconds that a connection is kept if `CONN_MAX_AGE` is 0, Django's default.
_KEPT_SECONDS = 60.0


def watch() -> None:
    """Connect to the signals of Celery and Django. A second call changes nothing."""
    signals.worker_init.connect(_keep, weak=False, dispatch_uid="outbox.keep")
    signals.task_prerun.connect(drop_old_connections, weak=False, dispatch_uid="outbox.drop")
    connection_created.connect(_extend, weak=False, dispatch_uid="outbox.extend")


def _keep(*, sender: Any, **_kwargs: Any) -> None:
    """Replace `close_database` of Celery's Django fixup, after it has installed itself."""
    for fixup in sender.app._fixups or ():
        if isinstance(fixup, DjangoFixup):
            of_worker: Any = fixup.worker_fixup
            of_worker.close_database = partial(_close_unless_own, of_worker.close_database)


def _close_unless_own(close: Callable[..., object], **kwargs: Any) -> None:
    if not is_own(current_task):
        _end_extension()
        close(**kwargs)


def _extend(*, connection: Any, **_kwargs: Any) -> None:
    """Let the outbox's tasks keep a new connection for some time if `CONN_MAX_AGE` is 0."""
    if connection.settings_dict.get("CONN_MAX_AGE") == 0 and is_own(current_task):
        connection.close_at = time.monotonic() + _KEPT_SECONDS


def _end_extension() -> None:
    """Mark extended connections as too old: Celery 5.4 closes only broken and old ones."""
    for connection in connections.all(initialized_only=True):
        if connection.settings_dict.get("CONN_MAX_AGE") == 0:
            connection.close_at = time.monotonic()


def drop_old_connections(*, task: Any = None, **_kwargs: Any) -> None:
    """Before a task of the outbox, drop old and dead connections, as Django does for a request."""
    if not is_own(task):
        return
    is_eager = task.request.is_eager
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block and not is_eager:
            # Celery's own soft time limit may have interrupted the task before this one.
            logger.warning("A task left a transaction open on %s.", connection.alias)
            drop(connection)
        drop_broken_connection(using=connection.alias)
