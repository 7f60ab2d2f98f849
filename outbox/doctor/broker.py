"""Findings about Celery: its settings, and whether its broker answers and keeps messages.

`manage.py check` finds settings that would break a guarantee (`outbox/checks/celery.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.checks.celery import without_outbox
from outbox.formatting import listing
from outbox.transports.celery_app import has_outbox
from outbox.transports.names import celery_in_use

from .findings import Finding, error, facts_of, ok, warning
from .sqs import examine_queues

_PART = "broker"
_SETTINGS = "settings"
_FULL = 0.8

#: What to do about a broker that cannot be used, whatever its error is.
NEXT_STEP = gettext_lazy(
    "Start the broker, or correct what the error names: its address, user, password, permissions "
    "or certificate. Nothing is lost: events and deliveries wait in the database."
)


def examine_broker() -> Iterator[Finding]:
    """Connect to the broker, and examine how it stores messages; nothing without a broker."""
    app = celery_in_use()
    if app is not None and has_outbox(app):
        yield from _of_broker(app)


def _of_broker(app: Any) -> Iterator[Finding]:
    from outbox.transports.celery_settings import connect_once, own_connection  # need Celery

    try:
        with own_connection(app) as connection:
            connect_once(connection)
            channel = connection.default_channel
            where, kind = connection.as_uri(), connection.transport.driver_type
            found = _of_channel(app, channel, kind)
    except Exception as caught:
        yield error(
            _PART,
            _("It cannot be used: %(name)s: %(caught)s.") % facts_of(caught),
            str(NEXT_STEP),
        )
        return
    yield ok(_PART, _("It answers at %(where)s.") % {"where": where})
    yield from found


def _of_channel(app: Any, channel: Any, kind: str) -> list[Finding]:
    """Examine a broker of this kind; some answer over the channel."""
    if kind == "redis":
        return list(of_redis(channel.client.info()))
    if kind == "sqs":
        return list(examine_queues(channel))
    return list(_of_rabbitmq(app))


def of_redis(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Examine the output of INFO of Redis or Valkey."""
    policy = str(facts.get("maxmemory_policy", "unknown"))
    most, used = int(facts.get("maxmemory", 0)), int(facts.get("used_memory", 0))
    if most and policy not in ("noeviction", "unknown"):
        yield error(
            _PART,
            _("It evicts messages when its memory is full (maxmemory-policy %(policy)s).")
            % {"policy": policy},
            _(
                "Set maxmemory-policy noeviction. Evicted deliveries are sent "
                "again after their lease."
            ),
        )
    elif most and used > most * _FULL:
        yield warning(
            _PART,
            _("%(used)s of its memory is used. When it is full, it accepts no message.")
            % {"used": f"{used / most:.0%}"},
            _("Raise maxmemory, or find out which other programs use it."),
        )
    else:
        yield ok(
            _PART, _("It evicts no message (maxmemory-policy %(policy)s).") % {"policy": policy}
        )
    if facts.get("aof_enabled"):
        yield ok(_PART, _("It writes messages to disk (append-only file)."))
    else:
        yield warning(
            _PART,
            _("It loses its messages when it restarts (no append-only file)."),
            _("Set appendonly yes. Without it, each restart delays deliveries by their lease."),
        )
    if facts.get("role") == "slave":
        yield error(
            _PART,
            _("It is a replica, and accepts no message."),
            _("Configure the primary instead."),
        )


def _of_rabbitmq(app: Any) -> Iterator[Finding]:
    kind = app.conf.get("task_default_queue_type") or "classic"
    if kind == "quorum":
        yield ok(_PART, _("Queues are declared as quorum queues."))
    else:
        yield warning(
            _PART,
            _("Queues are declared as %(kind)s queues, which are stored on one node.")
            % {"kind": kind},
            _(
                'In a cluster, set task_default_queue_type = "quorum". Lost '
                "deliveries are sent again."
            ),
        )


def examine_settings() -> Iterator[Finding]:
    """Examine whether the app has the outbox, its prefetch count, and what its workers accept."""
    app = celery_in_use()
    if app is None:
        return
    if not has_outbox(app):
        yield error(_SETTINGS, *without_outbox(app))
        return
    found = [*_prefetch(app.conf), *_accepted(app.conf)]
    yield from found or [
        ok(_SETTINGS, _("Prefetch count and accepted content of workers are safe."))
    ]


def _prefetch(conf: Any) -> Iterator[Finding]:
    prefetch = conf.worker_prefetch_multiplier
    if prefetch != 1:
        yield warning(
            _SETTINGS,
            _(
                "worker_prefetch_multiplier is %(prefetch)s: a busy worker "
                "reserves messages of idle ones, which delays deliveries."
            )
            % {"prefetch": prefetch},
            _(
                "Set worker_prefetch_multiplier = 1, or start workers of the "
                "outbox's queues with --prefetch-multiplier 1."
            ),
        )


def _accepted(conf: Any) -> Iterator[Finding]:
    others = set(conf.accept_content) - {"json", "application/json"}
    if others:
        yield warning(
            _SETTINGS,
            _(
                "Workers accept %(names)s. With pickle, everyone with write access "
                "to the broker can run code in them."
            )
            % {"names": listing(sorted(others))},
            _('Set accept_content = ["json"]. The outbox sends only JSON.'),
        )
