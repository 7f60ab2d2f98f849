"""Checks of the hosts of PostgreSQL, by `manage.py check --deploy`. The messages:

E080 connecting to a host that is gone takes minutes
E081 data that a host does not acknowledge is repeated for minutes
E082 a process waits for minutes for the answer of a host that is gone
E083 one of several hosts may be a standby, which refuses each write

For a database that the outbox does not use, the first three are the warnings W080, W081 and W082.

A host that has no network closes no connection, so its peers learn nothing of it. A database on
this host, or one that a service file of libpq names, is not examined.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register
from django.db import connections

from outbox import databases
from outbox.lost_hosts import LONGEST_SECONDS, is_remote

#: Seconds by which Linux probes a silent connection, if it has no values of its own.
_IDLE, _INTERVAL, _COUNT = 7200, 75, 9
#: The ids for databases that the outbox does not use. Only code of the project waits for them.
_WARNINGS = {
    "outbox.E080": "outbox.W080",
    "outbox.E081": "outbox.W081",
    "outbox.E082": "outbox.W082",
}
_WRITABLE = ("read-write", "primary")


@register("outbox", deploy=True)
def check_database_hosts(**_kwargs: Any) -> list[CheckMessage]:
    """Find databases whose lost host would stop a process for minutes."""
    found: list[CheckMessage] = []
    for alias in connections:
        connection = connections[alias]
        settings = connection.settings_dict
        options = settings.get("OPTIONS") or {}
        hosts = _hosts(settings, options)
        if connection.vendor != "postgresql" or not hosts or "service" in options:
            continue
        each = [*_connect(alias, options, hosts), *_send(alias, options), *_wait(alias, options)]
        if alias in databases.aliases():
            found += [*each, *_standby(alias, options, hosts)]
        else:
            found += map(_as_warning, each)
    return found


def _as_warning(error: CheckMessage) -> CheckMessage:
    return Warning(error.msg, hint=error.hint, obj=error.obj, id=_WARNINGS[str(error.id)])


def _hosts(settings: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """Return the hosts that a connection may be made to; none if all are this one."""
    given = options.get("host") or settings.get("HOST") or os.environ.get("PGHOST", "")
    hosts = str(given).split(",")
    return hosts if any(is_remote(host) for host in hosts) else []


def _connect(
    alias: str, options: Mapping[str, Any], hosts: Sequence[str]
) -> Iterator[CheckMessage]:
    given = _number(options.get("connect_timeout", os.environ.get("PGCONNECT_TIMEOUT")))
    seconds = given * len(hosts)  # libpq tries one after the other
    if not 0 < seconds <= LONGEST_SECONDS:
        time = f"up to {seconds:g} s" if seconds else "about two minutes"
        yield Error(
            f'Connecting to the host of DATABASES["{alias}"] takes {time} if the host is gone.',
            hint=_hint(alias, "connect_timeout", "5 (seconds, for each host)"),
            obj="settings",
            id="outbox.E080",
        )


def _send(alias: str, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    seconds = _number(options.get("tcp_user_timeout")) / 1000
    if not 0 < seconds <= LONGEST_SECONDS:
        time = f"{seconds:g} s" if seconds else "about a quarter of an hour"
        yield Error(
            f'A process that sends a statement to DATABASES["{alias}"] waits {time} if the host is '
            "gone. Keepalive sends no probe while data is unacknowledged.",
            hint=_hint(alias, "tcp_user_timeout", "10000 (milliseconds)"),
            obj="settings",
            id="outbox.E081",
        )


def _wait(alias: str, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    seconds = _silence(options)
    if seconds > LONGEST_SECONDS:
        time = "for ever" if seconds == float("inf") else f"{seconds:g} s"
        yield Error(
            f'A process that waits for an answer of DATABASES["{alias}"] waits {time} if the host '
            "is gone. tcp_user_timeout ends no connection that has nothing to send.",
            hint=_hint(
                alias, "keepalives_idle", "5, keepalives_interval to 2 and keepalives_count to 3"
            ),
            obj="settings",
            id="outbox.E082",
        )


def _silence(options: Mapping[str, Any]) -> float:
    """Return the seconds after which a connection that receives nothing is ended."""
    if _number(options.get("keepalives", 1)) == 0:
        return float("inf")
    idle = _number(options.get("keepalives_idle")) or _IDLE
    interval = _number(options.get("keepalives_interval")) or _INTERVAL
    count = _number(options.get("keepalives_count")) or _COUNT
    return idle + interval * count


def _standby(
    alias: str, options: Mapping[str, Any], hosts: Sequence[str]
) -> Iterator[CheckMessage]:
    given = options.get("target_session_attrs", os.environ.get("PGTARGETSESSIONATTRS", "any"))
    if len(hosts) > 1 and given not in _WRITABLE:
        yield Error(
            f'DATABASES["{alias}"] has {len(hosts)} hosts, and target_session_attrs is {given}. A '
            "connection may be made to a standby, where each write fails.",
            hint=_hint(alias, "target_session_attrs", '"read-write"'),
            obj="settings",
            id="outbox.E083",
        )


def _hint(alias: str, option: str, value: str) -> str:
    return (
        f'Set DATABASES["{alias}"]["OPTIONS"]["{option}"] to {value}, or take all options from '
        "postgresql_options() of outbox.lost_hosts."
    )


def _number(value: object) -> float:
    """Return an option as libpq reads it; 0 for a missing or invalid one."""
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return 0.0
