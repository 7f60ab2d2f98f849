"""Checks of a handler's parameters against the fields of each event that it subscribes to.

E001 a handler subscribes to an event that no app declares
E002 a parameter is neither a field of the event nor one of its facts
E003 a parameter's type does not fit the event's field
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from django.core.checks import CheckMessage, Error

from outbox import events
from outbox.contracts.catalogue import place
from outbox.contracts.compatibility import mismatches
from outbox.contracts.json_schemas import NO_SCHEMA, read_schema, written_schema
from outbox.events import FACTS, DomainEvent, is_pattern, selects
from outbox.formatting import did_you_mean
from outbox.subscriptions import Handler


def check_contract(handler: Handler) -> Iterator[CheckMessage]:
    """Compare a handler, and the function that finds its targets, with each of its events."""
    if handler.finder is not None:
        yield from check_contract(handler.finder)
    schemas = {} if handler.bulk else _read_schemas(handler)
    for name in handler.events:
        event = events.find(name)
        if is_pattern(name) or name.startswith("!"):
            yield from _selects_nothing(handler, name)
        elif event is None:
            yield _is_not_declared(handler, name)
        elif not handler.bulk:
            yield from _misread(handler, event, schemas)


def _is_not_declared(handler: Handler, name: str) -> CheckMessage:
    return Error(
        f"{handler.name} subscribes to {name}, which no installed app declares.",
        hint=_similar_event(name) or _declared_events(name),
        obj=place(handler),
        id="outbox.E001",
    )


def _selects_nothing(handler: Handler, pattern: str) -> Iterator[CheckMessage]:
    """Yield an error for a pattern of an app that declares no event."""
    names_no_app = pattern == "*" or pattern.startswith("!")
    if not names_no_app and not any(selects(pattern, one) for one in events.registry):
        yield _is_not_declared(handler, pattern)


def _similar_event(name: str) -> str:
    of_same_class = [one for one in events.registry if _class_name(one) == _class_name(name)]
    close = of_same_class or get_close_matches(name, list(events.registry), n=1)
    event = events.find(close[0]) if close else None
    return f"Did you mean {event.event_name} ({place(event)})?" if event else ""


def _class_name(name: str) -> str:
    return name.rpartition(".")[2]


def _declared_events(name: str) -> str:
    label = name.rpartition(".")[0]
    of_app = sorted(one for one in events.registry if one.startswith(f"{label}."))
    if of_app:
        return f"{label} declares {', '.join(of_app)}."
    labels = sorted({one.partition(".")[0] for one in events.registry})
    return (
        f"No app {label!r} declares events. Apps with events: {', '.join(labels) or 'none'}. "
        "Declare events in the app's events.py, and list the app in INSTALLED_APPS."
    )


def _read_schemas(handler: Handler) -> dict[str, Any]:
    """Return the schemas of the parameters that have one; handlers.py reports the others."""
    schemas: dict[str, Any] = {}
    with suppress(Exception):  # an annotation is code, which may raise anything
        for name, kind in handler.fields.items():
            with suppress(*NO_SCHEMA):
                schemas[name] = read_schema(kind)
    return schemas


def _misread(
    handler: Handler, event: type[DomainEvent], schemas: Mapping[str, Any]
) -> Iterator[CheckMessage]:
    """Compare the parameters with the fields of one event."""
    try:
        written = written_schema(event)
    except NO_SCHEMA:  # event_classes.py reports it
        return
    for name in handler.parameters:
        if name not in FACTS and name not in written["properties"]:
            yield _not_carried(handler, event, name, list(written["properties"]))
        elif name in schemas:
            for mismatch in _mismatches(handler, name, written, schemas[name]):
                yield _does_not_fit(handler, event, mismatch)


def _mismatches(
    handler: Handler, name: str, written: Mapping[str, Any], read: Mapping[str, Any]
) -> list[str]:
    field = {**written["properties"][name], "$defs": written.get("$defs", {})}
    found = mismatches(field, read, path=name)
    if found:  # a model is also read by the names of its fields
        by_name = read_schema(handler.fields[name], by_alias=False)
        found = found if mismatches(field, by_name, path=name) else []
    if name not in written.get("required", ()) and not _has_default(handler, name):
        found.append(f"{name}: the event may omit it, the handler requires it")
    return found


def _does_not_fit(handler: Handler, event: type[DomainEvent], mismatch: str) -> CheckMessage:
    return Error(
        f"{handler.name} cannot read every {event.event_name} ({place(event)}). {mismatch}.",
        hint="Give the parameter a type that accepts every value of the event's field.",
        obj=place(handler),
        id="outbox.E003",
    )


def _not_carried(
    handler: Handler, event: type[DomainEvent], name: str, carried: list[str]
) -> CheckMessage:
    outcome = ". It would always have its default" if _has_default(handler, name) else ""
    return Error(
        f"{handler.name} reads {name}, which is neither a field of {event.event_name} "
        f"({place(event)}) nor a fact{outcome}.",
        hint=did_you_mean(name, [*carried, *sorted(FACTS)])
        or f"Fields: {', '.join(carried)}. Facts: {', '.join(sorted(FACTS))}.",
        obj=place(handler),
        id="outbox.E002",
    )


def _has_default(handler: Handler, name: str) -> bool:
    return handler.parameters[name].default is not inspect.Parameter.empty
