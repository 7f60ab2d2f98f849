"""The transports that a project uses: `OUTBOX["TRANSPORTS"]`, or what is installed."""

from __future__ import annotations

import functools

from outbox.conf import conf

from . import celery_app

#: Messages go through the broker of the project's Celery app to Celery's workers.
CELERY = "celery"
#: Processes of `manage.py outbox work` relay and deliver, without a broker.
LOCAL = "local"
NAMES = (CELERY, LOCAL)


def in_use() -> tuple[str, ...]:
    """Return the names of the transports: Celery's if it is installed, otherwise the local one."""
    return tuple(conf(lenient=True).TRANSPORTS) or _installed()


def uses(name: str) -> bool:
    """Return whether the project uses the transport of this name."""
    return name in in_use()


@functools.cache
def _installed() -> tuple[str, ...]:
    return (CELERY,) if celery_app.is_importable() else (LOCAL,)
