"""Checks of `OUTBOX["DATABASES"]` and `OUTBOX["READ_FROM"]`. The messages:

E093 it names a database that cannot hold an outbox
E094 a listed database lacks the tables of the outbox; only by `check --deploy --database ALIAS`
E095 OUTBOX["READ_FROM"] names no replica
E096 the routers send rows of a listed database to another one
W093 the first listed database is not the one of the routers
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router

from outbox import databases
from outbox.formatting import did_you_mean
from outbox.models import Event


def wrong_databases() -> Iterator[CheckMessage]:
    """Find entries of the setting that name no database, a copy, or one database twice."""
    given = getattr(settings, "OUTBOX", {}).get("DATABASES", ())
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, str) for one in given):
        yield Error(
            f'OUTBOX["DATABASES"] has the invalid value {given!r}.',
            hint="Set it to a list of aliases of DATABASES, the default one first, or remove it.",
            obj="settings",
            id="outbox.E012",
        )
        return
    for alias in dict.fromkeys(given):
        if given.count(alias) > 1:
            yield _error(f"names {alias} {given.count(alias)} times", "Name each database once.")
        yield from _unfit(alias)
    yield from _other_first(given)


def _other_first(given: Sequence[str]) -> Iterator[CheckMessage]:
    # Processes and messages of a release without the setting use the routers' database.
    routed = router.db_for_write(Event)
    if given and given[0] != routed:
        yield Warning(
            f'OUTBOX["DATABASES"] begins with {given[0]}, and without the setting the outbox is in '
            f"{routed}. Messages that name no database are run in {given[0]}.",
            hint=f"Begin the list with {routed}.",
            obj="settings",
            id="outbox.W093",
        )


def wrong_replicas() -> Iterator[CheckMessage]:
    """Find replicas that DATABASES lacks, and databases that are read and written."""
    given = getattr(settings, "OUTBOX", {}).get("READ_FROM", "")
    if not isinstance(given, (str, dict)) or not all(isinstance(one, str) for one in given):
        yield Error(
            f'OUTBOX["READ_FROM"] has the invalid value {given!r}.',
            hint="Set it to the alias of a replica, or to a replica for each database: "
            '{"default": "replica"}.',
            obj="settings",
            id="outbox.E012",
        )
        return
    known = given if isinstance(given, dict) else {databases.aliases()[0]: given}
    for alias, replica in known.items():
        if not replica:
            continue
        if replica not in connections.settings or alias not in databases.aliases():
            missing = alias if replica in connections.settings else replica
            yield _wrong_replica(f"names {missing}, which is no database of the outbox's settings")
        elif replica in databases.aliases():
            yield _wrong_replica(f"names {replica}, which is written, too")


def _wrong_replica(problem: str) -> CheckMessage:
    return Error(
        f'OUTBOX["READ_FROM"] {problem}.',
        hint="Name an alias of DATABASES that reads a replica of a database with an outbox.",
        obj="settings",
        id="outbox.E095",
    )


def usable() -> list[str]:
    """Return the aliases of the outbox's databases that the settings declare."""
    return [alias for alias in databases.aliases() if alias in connections.settings]


@register(Tags.database, deploy=True)
def check_tables(
    databases: Sequence[str] | None = None,  # the name is Django's
    **_kwargs: Any,
) -> list[CheckMessage]:
    """Find listed databases, among the given ones, without the tables of the outbox."""
    return [
        Error(
            f'OUTBOX["DATABASES"] names {alias}, whose database has no table '
            f"{Event._meta.db_table}. emit() fails there.",
            hint=f"Run `manage.py migrate --database {alias}`.",
            obj="settings",
            id="outbox.E094",
        )
        for alias in _listed(databases)
        if Event._meta.db_table not in connections[alias].introspection.table_names()
    ]


def _listed(given: Sequence[str] | None) -> list[str]:
    return [
        one for one in databases.listed() if one in connections.settings and one in (given or ())
    ]


def _unfit(alias: str) -> Iterator[CheckMessage]:
    if alias not in connections.settings:
        known = sorted(connections.settings)
        hint = did_you_mean(alias, known) or f"The databases are {', '.join(known)}."
        yield _error(f"names {alias}, which DATABASES does not have", hint)
        return
    mirror = connections[alias].settings_dict.get("TEST", {}).get("MIRROR")
    if mirror:
        yield _error(
            f"names {alias}, which is a replica of {mirror} (TEST MIRROR)",
            f"Remove {alias}: events are stored in {mirror}.",
        )
    elif (routed := _routed(alias)) != alias:
        yield Error(
            f'OUTBOX["DATABASES"] names {alias}, and DATABASE_ROUTERS send rows that were read '
            f"from {alias} to {routed}. Relations of the outbox's rows would be those of {routed}.",
            hint="Let db_for_read and db_for_write of your router return None for the app outbox: "
            "the setting replaces them.",
            obj="settings",
            id="outbox.E096",
        )
    elif not router.allow_migrate(alias, "outbox", model_name="event"):
        yield _error(
            f"names {alias}, in which DATABASE_ROUTERS allow no table of the outbox",
            f'Let allow_migrate("{alias}", "outbox") of your router return True.',
        )


def _routed(alias: str) -> str:
    """Return the database to which the routers send an event that was read from a database."""
    event = Event()
    event._state.db = alias
    return router.db_for_write(Event, instance=event)


def _error(problem: str, hint: str) -> CheckMessage:
    return Error(f'OUTBOX["DATABASES"] {problem}.', hint=hint, obj="settings", id="outbox.E093")
