"""The transports that a project uses: `OUTBOX["TRANSPORTS"]`, or what is installed."""

from __future__ import annotations

import functools
from typing import Any

from outbox.conf import conf

from . import celery_app

#: Messages go through the broker of the project's Celery app to Celery's workers.
CELERY = "celery"
#: Processes of `manage.py outbox work` relay and deliver, without a broker.
LOCAL = "local"
NAMES = (CELERY, LOCAL)


def in_use() -> tuple[str, ...]:
    """Return the names of the transports: Celery's if it is installed, otherwise the local one."""
    given = conf(lenient=True).TRANSPORTS
    return tuple(given) if given and isinstance(given, (list, tuple)) else _installed()


def uses(name: str) -> bool:
    """Return whether the project uses the transport of this name."""
    return name in in_use()


def celery_in_use() -> Any:
    """Return Celery's current app, or None if the project does not use it as a transport."""
    return celery_app.find_app() if uses(CELERY) else None


@functools.cache
def _installed() -> tuple[str, ...]:
    return (CELERY,) if celery_app.is_importable() else (LOCAL,)
