"""The dead man's ping: a request to an outside service, which raises an alarm if pings stop.

It is sent only if the database has recent heartbeats of a relay that works and, with Celery, of
beat. So it stops if one of them stops, if every pass of the relay fails, if the database cannot be
read, and if no process of the outbox runs.
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
#: Seconds beside the network's, for the queries.
_MARGIN_SECONDS = 5.0
#: The heartbeat that beat's task writes where it runs. It proves that beat sends tasks.
_TASK = "beat"

Kind = Heartbeat.Kind


def longest_seconds(config: DeadManConfig) -> float:
    """Return the longest duration of a ping, in seconds: connection, then request and answer."""
    return 2 * config.timeout + _MARGIN_SECONDS


def silent_parts(*, using: str) -> list[str]:
    """Return the parts without a recent heartbeat, of those that have to run: relay and beat.

    A relay whose every pass fails counts as silent, unless another one works.
    Without Celery there is no beat: processes of `outbox work` run the periodic jobs.

    Raises:
        django.db.Error: the database cannot be read.
    """
    found = Heartbeats(using=using)
    silent = [] if found.has_working_relay() else [Kind.RELAY.value]
    if names.uses(names.CELERY) and not found.latest(Kind.BEAT, name=_TASK).is_fresh:
        silent.append(Kind.BEAT.value)
    return silent


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
