"""Checks of the settings: `OUTBOX`, and the connection to the outbox's database. The messages:

E012 OUTBOX has an unknown key or a value of the wrong type
E026 a setting needs a package that is not installed
E027 transactions read an old snapshot on PostgreSQL
E098 USE_TZ is False
E099 a database is neither PostgreSQL nor SQLite 3.35 or later
W002 SQLite takes its write lock late
W021 OUTBOX["RETENTION"] names an event that no app declares
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from outbox import events, tenants
from outbox.alerts import configuration as alerts
from outbox.conf import Conf
from outbox.formatting import did_you_mean
from outbox.policy import is_span
from outbox.sinks import configuration as sinks
from outbox.transports import names
from outbox.transports.celery_app import is_importable

from .databases import usable, wrong_databases, wrong_replicas

_PROPER = {
    bool: "True or False",
    type(None): "True, False or None",
    int: "a whole number above zero",
    float: "a number of seconds above zero, at most a year",
    dict: 'event names, or "default", each with days above zero, at most a hundred years, or None '
    "to keep for ever",
}

#: Most days in `RETENTION`: a hundred years.
_MOST_DAYS = 36_600

_PROPER_TEXT = {
    "ASYNCAPI_TITLE": "the title of the AsyncAPI document",
    "ASYNCAPI_VERSION": "the version of the AsyncAPI document",
    "ARCHIVE": "the path of a folder",
    "RELEASE": "the version or commit of the running code",
    "TRACE_URL": "a URL that contains {trace_id}",
    "METRICS_TOKEN": "the token that a scraper sends",
    "SOURCE": "a URI reference that names this service",
    "SCHEMA_URL": "the address of an event's schema, with {app} {event} {name} {version}",
}

_CHECKED_ELSEWHERE = (
    *("ALERTS", "DATABASES", "LOOKUPS", "READ_FROM", "SINKS", "SOURCES", "TENANT"),
    "TRANSPORTS",
)

#: Setting, the module that it needs, and the package to install.
_NEEDED = (
    ("METRICS_TOKEN", "prometheus_client", "prometheus-client"),
    ("TRACING", "opentelemetry", "opentelemetry-sdk"),
)


def settings_messages() -> Iterator[CheckMessage]:
    """Find invalid settings, missing packages, and connection options that break a guarantee."""
    yield from _unknown_settings()
    yield from _wrong_settings()
    yield from _wrong_entries(sinks.configured)
    yield from _wrong_entries(alerts.configured)
    yield from _wrong_entries(tenants.require_valid)
    yield from _wrong_transports()
    yield from _wrong_lookups()
    yield from _unknown_events()
    yield from wrong_databases()
    yield from wrong_replicas()
    yield from _database()
    yield from _missing_packages()


def _unknown_settings() -> Iterator[CheckMessage]:
    known = [field.name for field in fields(Conf)]
    for name in sorted(set(getattr(settings, "OUTBOX", {})) - set(known)):
        yield Error(
            f"OUTBOX has no setting {name}.",
            hint=did_you_mean(name, known) or f"The settings are {', '.join(known)}.",
            obj="settings",
            id="outbox.E012",
        )


def _wrong_settings() -> Iterator[CheckMessage]:
    given = getattr(settings, "OUTBOX", {})
    for field in fields(Conf):
        if field.name in _CHECKED_ELSEWHERE:
            continue
        default = getattr(Conf(), field.name)
        value, kind = given.get(field.name, default), type(default)
        if not _is_proper(value, kind):
            proper = f"a string, {_PROPER_TEXT[field.name]}" if kind is str else _PROPER[kind]
            shown = f"the invalid value {value!r}"
            if not field.repr and value is not None:  # it may be secret
                shown = f"an invalid value of type {type(value).__name__}"
            yield Error(
                f'OUTBOX["{field.name}"] has {shown}.',
                hint=f"Set it to {proper}.",
                obj="settings",
                id="outbox.E012",
            )


def _wrong_entries(read: Callable[[], object]) -> Iterator[CheckMessage]:
    try:
        read()
    except ImproperlyConfigured as error:
        yield Error(str(error), obj="settings", id="outbox.E012")


def _is_proper(value: Any, kind: type[Any]) -> bool:
    if kind is type(None):
        return value is None or isinstance(value, bool)
    if kind is bool or isinstance(value, bool):
        return isinstance(value, kind) and kind is bool
    if kind is str:
        return isinstance(value, str)
    if kind is dict:
        return isinstance(value, dict) and all(map(_is_proper_age, value.values()))
    return is_span(value) if kind is float else isinstance(value, int) and value > 0


def _is_proper_age(days: object) -> bool:
    if isinstance(days, bool) or not isinstance(days, int | float):
        return days is None
    return 0 < days <= _MOST_DAYS


def _wrong_transports() -> Iterator[CheckMessage]:
    given = getattr(settings, "OUTBOX", {}).get("TRANSPORTS", ())
    is_proper = isinstance(given, (list, tuple)) and all(one in names.NAMES for one in given)
    if not is_proper:
        yield Error(
            f'OUTBOX["TRANSPORTS"] has the invalid value {given!r}.',
            hint='Set it to a list of "celery" (a broker carries messages) and "local" '
            "(processes of outbox work), or remove it.",
            obj="settings",
            id="outbox.E012",
        )
    elif names.CELERY in given and not is_importable():
        yield Error(
            'OUTBOX["TRANSPORTS"] has "celery", which needs the package celery.',
            hint='Install it (extra "celery"), or set TRANSPORTS to ["local"].',
            obj="settings",
            id="outbox.E026",
        )


def _wrong_lookups() -> Iterator[CheckMessage]:
    given = getattr(settings, "OUTBOX", {}).get("LOOKUPS", {})
    if not isinstance(given, dict):
        yield Error(
            f'OUTBOX["LOOKUPS"] has the invalid value {given!r}.',
            hint='Set it to a dictionary, such as {"orders.queries.find": "order reference"}.',
            obj="settings",
            id="outbox.E012",
        )
        return
    for path in given:
        try:
            import_string(path)
        except ImportError as error:
            yield Error(
                f'OUTBOX["LOOKUPS"] names {path}, which cannot be imported: {error}.',
                hint="Name a function by its dotted path. It takes a term and returns rows.",
                obj="settings",
                id="outbox.E012",
            )


def _unknown_events() -> Iterator[CheckMessage]:
    given = getattr(settings, "OUTBOX", {}).get("RETENTION", {})
    names = set(given) if isinstance(given, dict) else set()
    for name in sorted(one for one in names - {"default"} if events.find(one) is None):
        yield Warning(
            f'OUTBOX["RETENTION"] names the event {name}, which no installed app declares.',
            hint=did_you_mean(name, events.registry),
            obj="settings",
            id="outbox.W021",
        )


def _database() -> Iterator[CheckMessage]:
    if not settings.USE_TZ:
        yield Error(
            "USE_TZ is False. The outbox compares times that have a time zone with those that it "
            "reads from the database. On PostgreSQL, workers fail after each delivery.",
            hint="Set USE_TZ = True, the default. Django's page about time zones has a migration "
            "guide for existing code.",
            obj="settings",
            id="outbox.E098",
        )
    for using in usable():
        vendor = connections[using].vendor
        if vendor == "postgresql":
            yield from _old_snapshots(using)
        elif vendor == "sqlite":
            yield from _old_sqlite()
            yield from _late_write_lock(using)
        elif vendor != "unknown":  # that of a project without DATABASES, for example in a build
            yield _unsupported(
                f'DATABASES["{using}"] has the engine {connections[using].settings_dict["ENGINE"]}',
                "Store the events, and the rows that change with them, in a PostgreSQL database.",
            )


def _old_sqlite() -> Iterator[CheckMessage]:
    import sqlite3  # a Python for PostgreSQL alone may lack it

    if sqlite3.sqlite_version_info < (3, 35):
        yield _unsupported(
            f"SQLite {sqlite3.sqlite_version} has no RETURNING, so relays fail",
            "Use a Python with SQLite 3.35 or later, or PostgreSQL.",
        )


def _unsupported(problem: str, hint: str) -> CheckMessage:
    return Error(
        f"{problem}. The outbox needs PostgreSQL, or SQLite 3.35 or later.",
        hint=hint,
        obj="settings",
        id="outbox.E099",
    )


def _old_snapshots(using: str) -> Iterator[CheckMessage]:
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    given = connections[using].settings_dict.get("OPTIONS", {}).get("isolation_level")
    if given in (None, IsolationLevel.READ_COMMITTED):
        return
    known = [level.name for level in IsolationLevel if level == given]
    level = known[0].replace("_", " ") if known else repr(given)
    yield Error(
        f'DATABASES["{using}"] has the isolation level {level}. The outbox needs READ COMMITTED, '
        "because it takes locks and then reads rows that were committed before. With a snapshot "
        "from before the lock, it blanks owed events and runs two deliveries of a key at once.",
        hint=f'Remove "isolation_level" from DATABASES["{using}"]["OPTIONS"]. A block that needs a '
        "snapshot can begin with SET TRANSACTION ISOLATION LEVEL REPEATABLE READ.",
        obj="settings",
        id="outbox.E027",
    )


def _late_write_lock(using: str) -> Iterator[CheckMessage]:
    options = connections[using].settings_dict.get("OPTIONS", {})
    mode = str(options.get("transaction_mode") or "DEFERRED")
    if mode.upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        yield Warning(
            f"SQLite takes its write lock late (transaction_mode is {mode}). A transaction that "
            'reads first and then writes fails with "database is locked" if another one writes at '
            "the same time. The timeout does not prevent that.",
            hint=f'Set DATABASES["{using}"]["OPTIONS"]["transaction_mode"] to "IMMEDIATE".',
            obj="settings",
            id="outbox.W002",
        )


def _missing_packages() -> Iterator[CheckMessage]:
    given = getattr(settings, "OUTBOX", {})
    for name, module, package in _NEEDED:
        if given.get(name) and find_spec(module) is None:
            yield Error(
                f'OUTBOX["{name}"] needs {package}, which is not installed.',
                hint=f"Install it: pip install {package}",
                obj="settings",
                id="outbox.E026",
            )
