"""Checks of sources and external events. The messages:

E012 OUTBOX["SOURCES"] is invalid
E028 a source has the label of an installed app
E029 two external events are declared for one type of a source
W022 an external event names a source that is not configured
W023 an HTTP source is configured, and no URL leads to its view
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import unwrap
from itertools import combinations

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, URLResolver, get_resolver

from outbox.contracts.catalogue import place
from outbox.formatting import did_you_mean
from outbox.sources import configuration, http
from outbox.sources.events import ExternalEvent, declared_by


def check_sources() -> Iterator[CheckMessage]:
    """Find invalid sources, HTTP sources without a URL, and sources with the label of an app."""
    try:
        found = configuration.configured()
    except ImproperlyConfigured as error:
        yield Error(str(error), obj="settings", id="outbox.E012")
    else:
        yield from _without_url(found.values())
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


def _without_url(sources: Iterable[configuration.SourceConfig]) -> Iterator[CheckMessage]:
    called = sorted(one.name for one in sources if issubclass(one.backend_class, http.HttpSource))
    if not called or http.receive in _views():
        return
    yield Warning(
        f"The project has no URL for outbox.sources.http.receive, so {', '.join(called)} in "
        'OUTBOX["SOURCES"] cannot receive.',
        hint='Add path("events/<str:source>/", http.receive) to urlpatterns of ROOT_URLCONF.',
        obj="settings",
        id="outbox.W023",
    )


def _views() -> Iterator[object]:
    """Return the views of all URLs, and also those that a decorator wraps."""
    waiting = [get_resolver()] if getattr(settings, "ROOT_URLCONF", None) else []
    while waiting:
        for one in waiting.pop().url_patterns:
            if isinstance(one, URLResolver):
                waiting.append(one)
            elif isinstance(one, URLPattern):
                yield one.callback
                yield unwrap(one.callback, stop=lambda view: view is http.receive)


def _without_source(event: type[ExternalEvent], known: set[str]) -> CheckMessage:
    names = ", ".join(sorted(known)) or "none"
    return Warning(
        f'{event.event_name} comes from the source {event.event_source}, which OUTBOX["SOURCES"] '
        "does not configure. It is never received.",
        hint=did_you_mean(event.event_source, known) or f"The configured sources: {names}.",
        obj=place(event),
        id="outbox.W022",
    )
