"""Checks of the Celery app: settings that would break a guarantee of the outbox. The messages:

E070 workers refuse JSON
W070 the current Celery app does not have the outbox
W071 Celery runs tasks where they are sent
W072 Redis sends a running message again
W073 workers have another consumer class, which ends with the broker's connection

Settings of tasks are not checked: the outbox's tasks have options of their own, which
`outbox/transports/celery_settings.py` sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register

from outbox.transports.celery_app import has_outbox
from outbox.transports.names import celery_in_use

_SUBCLASS = "outbox.transports.celery_consumer:Consumer"


@register("outbox")
def check_celery(**_kwargs: Any) -> list[CheckMessage]:
    """Compare the settings of the Celery app with what the outbox needs, if the project uses it."""
    app = celery_in_use()
    if app is None:
        return []
    if not has_outbox(app):
        text, hint = without_outbox(app)
        return [Warning(text, hint=hint, obj="settings", id="outbox.W070")]
    found = (_refused(app), _eager(app), _visibility(app), _consumer(app))
    return [message for messages in found for message in messages]


def without_outbox(app: Any) -> tuple[str, str]:
    """Return the message and the advice for a current Celery app without the outbox."""
    text = f"The current Celery app ({app.main}) does not have the outbox."
    if app.main in (None, "default"):
        text = "This process has not loaded your Celery app. The current one is Celery's default."
    return (
        f"{text} Nudges and messages of this process go to that app's broker, or nowhere.",
        "Call install(app) of outbox.celery in the module that creates your Celery app, and import "
        'the app in the __init__.py of its package: "from .celery import app as celery_app". '
        'Without a broker, set OUTBOX["TRANSPORTS"] = ["local"] and run manage.py outbox work.',
    )


def _refused(app: Any) -> Iterator[CheckMessage]:
    accepted = set(app.conf.accept_content)
    if not accepted & {"json", "application/json"}:
        yield Error(
            f"accept_content is {sorted(accepted)}, so workers refuse the outbox's messages, which "
            "are JSON.",
            hint='Add "json" to accept_content.',
            obj="settings",
            id="outbox.E070",
        )


def _eager(app: Any) -> Iterator[CheckMessage]:
    if app.conf.task_always_eager:
        yield Warning(
            "task_always_eager is on, so the relay runs handlers itself, one at a time, and "
            "their time limits have no effect.",
            hint="Turn it off where workers run. In tests use the fixture of outbox.testing.",
            obj="settings",
            id="outbox.W071",
        )


def _visibility(app: Any) -> Iterator[CheckMessage]:
    from outbox.transports.celery_worker import ACKNOWLEDGE_AFTER_SECONDS, CHECK_SECONDS

    scheme = str(app.conf.broker_url or "").partition(":")[0]
    options = app.conf.broker_transport_options or {}
    timeout = float(options.get("visibility_timeout", 3600))
    least = ACKNOWLEDGE_AFTER_SECONDS + CHECK_SECONDS
    if scheme in ("redis", "rediss", "sentinel") and timeout <= least:
        yield Warning(
            f'broker_transport_options["visibility_timeout"] is {timeout:g} s. A worker '
            f"acknowledges a running message after at most {least:g} s. With this "
            "visibility_timeout Redis redelivers the message while it still runs, and a second "
            "worker receives it. That worker ignores it because of its token.",
            hint=f"Raise visibility_timeout above {least:g}.",
            obj="settings",
            id="outbox.W072",
        )


def _consumer(app: Any) -> Iterator[CheckMessage]:
    from outbox.transports.celery_consumer import is_ours

    name = app.conf.worker_consumer
    if not is_ours(name):
        yield Warning(
            f"worker_consumer is {name}. With it, a worker that runs a message may end when the "
            "connection to the broker is lost.",
            hint=f"Derive it from {_SUBCLASS.replace(':', '.')}, or remove the setting.",
            obj="settings",
            id="outbox.W073",
        )
