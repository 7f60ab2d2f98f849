"""The committed catalogue: `events.lock.json` beside each events.py, every version told so far.

Events are read long after they were told, by code of other releases. So what was told once is
written down, and `manage.py check` compares: an event only grows, by optional fields.
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

from .schema import misfits
from .shapes import NOT_DESCRIBED, recorded_schema

FILE = "events.lock.json"
ABOUT = (
    "Every event of this app and every version, as JSON Schema. Written by "
    "`manage.py outbox catalogue`; commit it with events.py."
)

#: Of one event, by version as text: {"key": ..., "schema": ...}.
Versions = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Breach:
    """A change that stored events or older code would not survive."""

    event: type[DomainEvent]
    what: str


def path_of(config: AppConfig) -> Path:
    """Return where an app's lock stands."""
    return Path(config.path) / FILE


def read(config: AppConfig) -> dict[str, Versions]:
    """Return what is recorded of an app's events, by name; nothing where there is no lock.

    Raises `ValueError` for a file that is no such lock, after a bad merge for example.
    """
    path = path_of(config)
    if not path.exists():
        return {}
    try:
        recorded: dict[str, Versions] = json.loads(path.read_text("utf-8"))["events"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no events.lock.json: {error!r}") from error
    return recorded


def apps_with_events() -> Iterator[AppConfig]:
    """Yield the installed apps that declare events, or have a lock of such."""
    labels = {name.partition(".")[0] for name, declared in events.registry.items() if declared}
    for config in apps.get_app_configs():
        if config.label in labels or path_of(config).exists():
            yield config


def breaches(config: AppConfig) -> list[Breach]:
    """Return what has changed in an app's events other than by new optional fields."""
    recorded = read(config)
    return [
        Breach(event, what)
        for event in _declared(config)
        for what in _breaches_of(event, recorded.get(event.event_name, {}))
    ]


def unrecorded(config: AppConfig) -> list[str]:
    """Say what the lock does not have yet: new events, versions, fields, and events now gone."""
    recorded, now = read(config), up_to_date(config)
    told = [
        _news(name, recorded.get(name, {}), versions)
        for name, versions in now.items()
        if recorded.get(name) != versions
    ]
    return told + [f"{name} is no longer declared" for name in recorded if name not in now]


def write(config: AppConfig) -> bool:
    """Bring an app's lock up to date; return whether that changed it.

    The caller has looked for `breaches` first: what is written here is what holds from now on.
    """
    path, text = path_of(config), _as_text(up_to_date(config))
    if path.exists() and path.read_text("utf-8") == text:
        return False
    path.write_text(text, "utf-8")
    return True


def up_to_date(config: AppConfig) -> dict[str, Versions]:
    """Return what an app's lock should hold: the versions of today, and all before them."""
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
    try:
        config = apps.get_app_config(name.partition(".")[0])
        recorded = read(config).get(name, {}).get(str(version))
    except (LookupError, ValueError):
        return None
    return recorded["schema"] if recorded else None


def _declared(config: AppConfig) -> Iterator[type[DomainEvent]]:
    for name, declared in sorted(events.registry.items()):
        if name.partition(".")[0] == config.label and declared:
            try:
                recorded_schema(declared[-1])
            except NOT_DESCRIBED:  # another check tells
                continue
            yield declared[-1]


def _breaches_of(event: type[DomainEvent], versions: Versions) -> Iterator[str]:
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
    """Compare both ways: today's code reads what was stored, older code what is told today."""
    forward = misfits(before, now)
    backward = misfits(_whole(now), _whole(before))
    for sentence in forward:
        yield _in_words(sentence, "a stored event", "events.py")
    known = {sentence.partition(":")[0] for sentence in forward}
    for sentence in backward:
        if sentence.partition(":")[0] not in known:
            yield _in_words(sentence, "events.py", "older code")


def _in_words(sentence: str, writer: str, reader: str) -> str:
    # The comparison speaks of an event and a handler, for which it was made.
    place, _colon, what = sentence.partition(": ")
    return f"{place}: {what.replace('the event', writer).replace('the handler', reader)}"


def _whole(schema: Any) -> Any:
    """Return a schema in which all properties are always there: so that a lost one is found."""
    if isinstance(schema, list):
        return [_whole(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {name: _whole(part) for name, part in schema.items()}
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        made["required"] = list(properties)
    return made


def _news(name: str, before: Versions, now: Versions) -> str:
    new = next(version for version in now if before.get(version) != now[version])
    if not before:
        return f"{name} is new"
    if new not in before:
        return f"version {new} of {name} is new"
    fields = set(now[new]["schema"]["properties"]) - set(before[new]["schema"]["properties"])
    if fields:
        return f"{name} carries {', '.join(sorted(fields))}"
    return f"{name} is described differently"


def _as_text(recorded: Mapping[str, Versions]) -> str:
    whole = {"about": ABOUT, "events": recorded}
    return json.dumps(whole, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
