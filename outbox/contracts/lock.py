"""The committed catalogue: `events.lock.json` beside each events.py, with all released versions.

Events are read long after they were emitted, by code of other releases. So each version is
recorded, and `manage.py check` compares: an event may only gain optional fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps

from outbox import events
from outbox.events import DomainEvent

from .compatibility import mismatches
from .json_schemas import NAMED, NO_SCHEMA, recorded_schema

FILE = "events.lock.json"
ABOUT = (
    "Every event of this app and every version, as JSON Schema. Written by "
    "`manage.py outbox catalogue`; commit it with events.py."
)

#: The record of one event, by version as text: {"key": ..., "schema": ...}.
Versions = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class IncompatibleChange:
    """A change that is incompatible with stored events or older code."""

    event: type[DomainEvent]
    what: str


def path_of(config: AppConfig) -> Path:
    """Return the path of an app's lock."""
    return Path(config.path) / FILE


def read(config: AppConfig) -> dict[str, Versions]:
    """Return the recorded versions of an app's events, by name; {} without a lock.

    Raises `ValueError` for an invalid file, for example after a bad merge.
    """
    path = path_of(config)
    if not path.exists():
        return {}
    try:
        recorded: dict[str, Versions] = json.loads(path.read_text("utf-8"))["events"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a valid events.lock.json: {error!r}") from error
    return recorded


def apps_with_events() -> Iterator[AppConfig]:
    """Yield the installed apps that declare events or have a lock."""
    labels = {label_of(declared[-1]) for declared in events.registry.values() if declared}
    for config in apps.get_app_configs():
        if config.label in labels or path_of(config).exists():
            yield config


def label_of(event: type[DomainEvent]) -> str:
    """Return the label of the app whose lock records an event: that of the class's module.

    The name of an external event begins with its source, and not with an app.
    """
    return events.app_label(event.__module__)


def incompatible_changes(config: AppConfig) -> list[IncompatibleChange]:
    """Return the changes of an app's events other than new optional fields."""
    recorded = read(config)
    return [
        IncompatibleChange(event, what)
        for event in _declared(config)
        for what in _incompatible_changes_of(event, recorded.get(event.event_name, {}))
    ]


def unrecorded(config: AppConfig) -> list[str]:
    """Return what the lock lacks, in words: new events, versions and fields, and removed events."""
    recorded, now = read(config), up_to_date(config)
    changed = [
        _news(name, recorded.get(name, {}), versions)
        for name, versions in now.items()
        if recorded.get(name) != versions
    ]
    return changed + [f"{name} is no longer declared" for name in recorded if name not in now]


def write(config: AppConfig) -> bool:
    """Update an app's lock; return whether that changed it.

    The caller checks for `incompatible_changes` first: later releases compare with the written
    contract.
    """
    path, text = path_of(config), _as_text(up_to_date(config))
    if path.exists() and path.read_text("utf-8") == text:
        return False
    path.write_text(text, "utf-8")
    return True


def up_to_date(config: AppConfig) -> dict[str, Versions]:
    """Return the content of an app's lock: the current versions and all recorded ones."""
    recorded = read(config)
    return {
        event.event_name: {
            **recorded.get(event.event_name, {}),
            str(event.event_version): {"key": event.event_key, "schema": recorded_schema(event)},
        }
        for event in _declared(config)
    }


def schema_of(*, name: str, version: int) -> Mapping[str, Any] | None:
    """Return the recorded schema of one version of an event, or None."""
    known = events.find(name)
    label = label_of(known) if known else name.partition(".")[0]
    try:
        config = apps.get_app_config(label)
        recorded = read(config).get(known.event_name if known else name, {}).get(str(version))
    except (LookupError, ValueError):
        return None
    return recorded["schema"] if recorded else None


def _declared(config: AppConfig) -> Iterator[type[DomainEvent]]:
    for _name, declared in sorted(events.registry.items()):
        if declared and label_of(declared[-1]) == config.label:
            try:
                recorded_schema(declared[-1])
            except NO_SCHEMA:  # another check reports it
                continue
            yield declared[-1]


def _incompatible_changes_of(event: type[DomainEvent], versions: Versions) -> Iterator[str]:
    latest = max(map(int, versions), default=0)
    if latest > event.event_version:
        yield f"its version went back from {latest} to {event.event_version}"
    recorded = versions.get(str(event.event_version))
    if recorded is None:
        return
    if recorded["key"] != event.event_key:
        yield f"its key was {recorded['key']} and is {event.event_key}"
    yield from _changes(recorded["schema"], recorded_schema(event))


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Compare both ways: current code reads stored events, older code reads current ones."""
    forward = mismatches(before, now)
    backward = mismatches(_whole(now), _whole(before))
    for sentence in forward:
        yield _in_words(sentence, "a stored event", "events.py")
    known = {sentence.partition(":")[0] for sentence in forward}
    for sentence in backward:
        if sentence.partition(":")[0] not in known:
            yield _in_words(sentence, "events.py", "older code")


def _in_words(sentence: str, writer: str, reader: str) -> str:
    # `mismatches` words its sentences for an event and a handler.
    place, _colon, what = sentence.partition(": ")
    return f"{place}: {what.replace('the event', writer).replace('the handler', reader)}"


def _whole(schema: Any) -> Any:
    """Return a schema in which all properties are required, so that a missing one is found."""
    if isinstance(schema, list):
        return [_whole(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {
        name: {key: _whole(one) for key, one in part.items()} if name in NAMED else _whole(part)
        for name, part in schema.items()
    }
    if "properties" in schema:
        made["required"] = list(schema["properties"])
    return made


def _news(name: str, before: Versions, now: Versions) -> str:
    new = next(version for version in now if before.get(version) != now[version])
    if not before:
        return f"{name} is new"
    if new not in before:
        return f"version {new} of {name} is new"
    fields = set(now[new]["schema"]["properties"]) - set(before[new]["schema"]["properties"])
    if fields:
        return f"{name} has new fields: {', '.join(sorted(fields))}"
    return f"the schema of {name} changed"


def _as_text(recorded: Mapping[str, Versions]) -> str:
    whole = {"about": ABOUT, "events": recorded}
    return json.dumps(whole, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
