"""Checks that events of older releases can still be read. The messages:

E020 a step of an event's chain of upcasters is missing
E021 an upcaster is for an event or version that does not exist, or two are for one step
E022 an event changed other than by an optional field (contracts/lock.py), or its lock is invalid
W020 events.lock.json lacks something that the code declares
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Warning

from outbox import events
from outbox.contracts import lock as contract_lock
from outbox.contracts import upcasting
from outbox.contracts.catalogue import place
from outbox.contracts.upcasting import Upcaster
from outbox.events import DomainEvent

from .contracts import did_you_mean


def check_versions(event: type[DomainEvent]) -> Iterator[CheckMessage]:
    """Find missing upcasters between version 1 and the current version of an event."""
    steps = upcasting.steps_of(event.event_name)
    for version in range(1, event.event_version):
        if version not in steps:
            yield Error(
                f"{event.event_name} is at version {event.event_version}, and nothing leads from "
                f"version {version} to {version + 1}: stored events of version {version} could "
                "not be read.",
                hint=f'Write @upcast("{event.event_name}", from_version={version}) below the '
                "class; the first version is 1.",
                obj=place(event),
                id="outbox.E020",
            )


def check_upcasters() -> Iterator[CheckMessage]:
    """Find upcasters that are never called, and two for one step."""
    for one in upcasting.registry:
        event = events.find(one.event)
        if event is None:
            yield _misplaced(
                one,
                f"{one.event}, which no installed app declares",
                did_you_mean(one.event, events.registry),
            )
        elif not 1 <= one.from_version < event.event_version:
            yield _misplaced(
                one,
                f"{one.event} from version {one.from_version}, which is at version "
                f"{event.event_version}",
                f"It leads to version {one.from_version + 1}: raise the version= of the class.",
            )
    for one, other in combinations(upcasting.registry, 2):
        if (one.event, one.from_version) == (other.event, other.from_version):
            what = f"{one.event} from version {one.from_version}"
            yield _misplaced(
                other, f"{what}, as {one.function.__name__} does", "Only one can be taken."
            )


def check_lock(config: AppConfig) -> Iterator[CheckMessage]:
    """Compare an app's events with its lock; without a lock there is nothing to compare."""
    if not contract_lock.path_of(config).exists():
        return
    try:
        found = contract_lock.breaches(config)
        news = contract_lock.unrecorded(config)
    except ValueError as error:
        hint = "Restore it from your version control."
        yield Error(str(error), hint=hint, obj=config.label, id="outbox.E022")
        return
    yield from map(breach_message, found)
    if not found:
        yield from (_unrecorded(config, what) for what in news)


def breach_message(breach: contract_lock.Breach) -> CheckMessage:
    """Return the message about an incompatible change, with the next step."""
    event = breach.event
    version = event.event_version
    return Error(
        f"{event.event_name} is no longer what its version {version} was: {breach.what}.",
        hint="An event only grows, by fields with a default. For any other change raise version= "
        f'to {version + 1} and write @upcast("{event.event_name}", from_version={version}). If '
        f"no release has told this version yet, remove it from {contract_lock.FILE}.",
        obj=place(event),
        id="outbox.E022",
    )


def _unrecorded(config: AppConfig, what: str) -> CheckMessage:
    return Warning(
        f"{config.label}/{contract_lock.FILE} does not know yet: {what}.",
        hint="Run `manage.py outbox catalogue` and commit what it writes.",
        obj=config.label,
        id="outbox.W020",
    )


def _misplaced(one: Upcaster, what: str, hint: str) -> CheckMessage:
    return Error(
        f"{one.function.__name__} upcasts {what}.",
        hint=hint,
        obj=place(one.function),
        id="outbox.E021",
    )
