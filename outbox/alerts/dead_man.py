"""The dead man's ping: a request to an outside service, which raises an alarm if pings stop.

It is sent only if the database has recent heartbeats of a relay and, with Celery, of beat. So it
stops if one of them stops, if the database cannot be read, and if no process of the outbox runs.
"""

from __future__ import annotations

import logging

from outbox.models import Heartbeat
from outbox.monitor.health import Heartbeats
from outbox.transports import names

from .configuration import DeadManConfig
from .exchange import ExchangeFailed, exchange

logger = logging.getLogger("outbox.alerts")

#: The claim of the next ping.
CLAIM = "dead man"
#: The heartbeat that beat's task writes where it runs. It proves that beat sends tasks.
_TASK = "beat"

Kind = Heartbeat.Kind


def silent_parts(*, using: str) -> list[str]:
    """Return the parts without a recent heartbeat, of those that have to run: relay and beat.

    Without Celery there is no beat: processes of `outbox work` run the periodic jobs.

    Raises:
        django.db.Error: the database cannot be read.
    """
    found = Heartbeats(using=using)
    needed = [(Kind.RELAY, ""), *([(Kind.BEAT, _TASK)] if names.uses(names.CELERY) else [])]
    return [kind.value for kind, name in needed if not found.latest(kind, name=name).is_fresh]


def ping(config: DeadManConfig) -> bool:
    """Send one ping; return whether the service took it."""
    try:
        exchange(
            config.method,
            config.url,
            body=b"" if config.method == "POST" else None,
            timeout=config.timeout,
        )
    except ExchangeFailed as error:
        logger.warning("The dead man's ping failed. It is repeated. %s", error)
        return False
    return True
