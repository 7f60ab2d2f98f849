"""The doctor: examines the running system, and returns findings with advice.

It examines each part separately. A part that cannot be examined is a finding, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from django.utils.translation import gettext as _

from outbox import databases
from outbox.transports.base import QUEUE
from outbox.transports.celery_app import has_outbox
from outbox.transports.names import celery_in_use

from . import broker, connected, database, local, owed, processes, sources
from .findings import ERROR, OK, WARNING, Finding, error, facts_of

__all__ = ["ERROR", "OK", "WARNING", "Finding", "examine", "examine_without_broker", "probe"]


_Parts = Mapping[str, Callable[[], Iterable[Finding]]]


def examine(*, timeout: float = 10.0, using: str | None = None) -> list[Finding]:
    """Examine broker, settings, database, heartbeats, queues and outstanding deliveries.

    Args:
        timeout: seconds within which the canaries must pass through their queues.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    far: _Parts = {
        "broker": broker.examine_broker,
        "wake-up": lambda: local.examine_wake_up(using=using),
        "external systems of sources": lambda: sources.examine_systems(timeout=timeout),
    }
    return _examine({**far, **_here(using), **_canaries(None, timeout=timeout, using=using)})


def probe(
    wanted: Collection[str], *, worker: str = "", timeout: float = 10.0, using: str | None = None
) -> list[Finding]:
    """Examine only whether workers consume these queues: the liveness probe of a worker.

    Busy workers count as consuming while their leases hold. If the relay's queue is wanted, the
    relay must have a recent heartbeat, too.

    Args:
        wanted: names of queues.
        worker: name of a worker, such as "inventory@host"; it must be alive and consume them.
        timeout: seconds within which the canaries must pass through their queues.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    parts = _canaries(wanted, timeout=timeout, using=using)
    parts["processes"] = lambda: local.examine_queues(wanted, using=using)
    if QUEUE in wanted:
        parts["relay"] = lambda: processes.examine_relay(using=using)
    if worker:
        parts["worker"] = lambda: processes.examine_worker(worker, queues=wanted, using=using)
    return _examine(parts)


def examine_without_broker(*, using: str | None = None, has_failures: bool = True) -> list[Finding]:
    """Examine all parts without the broker: settings, database, heartbeats, outstanding work.

    Args:
        using: the outbox's database alias.
        has_failures: name the exceptions of failing handlers, and the errors of sources.
    """
    using = using or databases.alias()
    return _examine(_here(using, has_failures=has_failures))


def _canaries(
    wanted: Collection[str] | None, *, timeout: float, using: str
) -> dict[str, Callable[[], Iterable[Finding]]]:
    """Return the part that sends canaries through the wanted queues; None: through all."""

    def part() -> Iterable[Finding]:
        app = celery_in_use()
        if app is None or not has_outbox(app):  # a finding of the broker or the settings
            return ()
        names = processes.all_queues(using=using) if wanted is None else wanted
        is_probe = wanted is not None
        return processes.examine_queues(names, is_probe=is_probe, timeout=timeout, using=using)

    return {"queues": part}


def _here(using: str, *, has_failures: bool = True) -> _Parts:
    return {
        "settings": broker.examine_settings,
        "migrations": lambda: database.examine_migrations(using=using),
        "database": lambda: database.examine(using=using),
        "heartbeats": lambda: processes.examine_heartbeats(using=using, has_failures=has_failures),
        "processes": lambda: local.examine_queues(None, using=using),
        "sources": lambda: sources.examine(using=using, has_failures=has_failures),
        "subscriptions": lambda: connected.examine(using=using),
        "owed deliveries": lambda: owed.examine(using=using, has_failures=has_failures),
    }


def _examine(parts: _Parts) -> list[Finding]:
    return [finding for name, part in parts.items() for finding in _examined(name, part)]


def _examined(name: str, part: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from part()
    except Exception as caught:  # one broken part must not hide the others
        yield error(
            name,
            _("It could not be examined: %(name)s: %(caught)s.") % facts_of(caught),
            _("Fix this first, then run the doctor again."),
        )
