"""Checks of sources and external events. The messages:

E012 OUTBOX["SOURCES"] is invalid
E028 a source has the label of an installed app
E029 two external events are declared for one type of a source
W022 an external event names a source that is not configured
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured

from outbox.contracts.catalogue import place
from outbox.formatting import did_you_mean
from outbox.sources import configuration
from outbox.sources.events import ExternalEvent, declared_by


def check_sources() -> Iterator[CheckMessage]:
    """Find invalid sources, and sources with the label of an app."""
    try:
        configuration.configured()
    except ImproperlyConfigured as error:
        yield Error(str(error), obj="settings", id="outbox.E012")
    labels = {config.label for config in apps.get_app_configs()}
    for name in sorted(configuration.names() & labels):
        yield Error(
            f'OUTBOX["SOURCES"]["{name}"] has the label of an installed app. Events of both would '
            "have the same names.",
            hint="Name the source after the other system, for example "
            f'"{name}_service", also in source= of its external events.',
            obj="settings",
            id="outbox.E028",
        )


def check_external_events() -> Iterator[CheckMessage]:
    """Find external events without a source, and two for one type of message."""
    known = configuration.names()
    declared = declared_by("")
    for event in declared:
        if event.event_source not in known:
            yield _without_source(event, known)
    for one, other in combinations(declared, 2):
        if (one.event_source, one.event_type) == (other.event_source, other.event_type):
            yield Error(
                f"{other.event_name} and {one.event_name} ({place(one)}) are declared for the type "
                f"{one.event_type} of the source {one.event_source}.",
                hint="One message becomes one event. Subscribe several handlers to one class.",
                obj=place(other),
                id="outbox.E029",
            )


def _without_source(event: type[ExternalEvent], known: set[str]) -> CheckMessage:
    names = ", ".join(sorted(known)) or "none"
    return Warning(
        f'{event.event_name} comes from the source {event.event_source}, which OUTBOX["SOURCES"] '
        "does not configure. It is never received.",
        hint=did_you_mean(event.event_source, known) or f"The configured sources: {names}.",
        obj=place(event),
        id="outbox.W022",
    )
