"""The versions of each event: the class's, and earlier ones as each app's lock records them."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps

from outbox import events
from outbox.contracts import lock as contract_lock
from outbox.contracts.json_schemas import NO_SCHEMA, published_schema
from outbox.contracts.schema_parts import resolve
from outbox.events import DomainEvent, words_of_name


@dataclass(frozen=True, kw_only=True)
class EventVersion:
    """One version of an event.

    Attributes:
        name: "app.ClassName".
        version: its number.
        key: the name of its key field.
        description: the docstring of the class.
        schema: JSON Schema (2020-12) of all stored payloads of the version.
        newest: the version of the class. Handlers and sinks read earlier ones as this version.
        source: the source that stores it; "" for an event that this code emits.
    """

    name: str
    version: int
    key: str
    description: str
    schema: Mapping[str, Any] = field(repr=False)
    newest: int
    source: str = ""

    @property
    def label(self) -> str:
        """ "app.ClassName.v1"."""
        return f"{self.name}.v{self.version}"

    @property
    def title(self) -> str:
        """Its name in words."""
        return words_of_name(self.name)

    @property
    def fields(self) -> Collection[str]:
        """The names of its fields."""
        whole = resolve(self.schema, self.schema.get("$defs", {}))
        return () if isinstance(whole, bool) else whole.get("properties", {})

    @property
    def is_newest(self) -> bool:
        """Whether it is the version of the class."""
        return self.version == self.newest


def versions() -> Iterator[EventVersion]:
    """Yield each version of each event that this code declares, by name, the newest first.

    Raises:
        ValueError: an `events.lock.json` is invalid.
    """
    for name in sorted(events.registry):
        event = events.find(name)
        if event is not None:
            yield _version(event, event.event_version, event.event_key, _schema(event))
            for version, record in sorted(_recorded(event).items(), reverse=True):
                if version < event.event_version:
                    yield _version(event, version, record["key"], record["schema"])


def _version(
    event: type[DomainEvent], version: int, key: str, schema: Mapping[str, Any]
) -> EventVersion:
    return EventVersion(
        name=event.event_name,
        version=version,
        key=key,
        description=inspect.cleandoc(event.__doc__ or ""),
        schema=schema,
        newest=event.event_version,
        source=event.event_source,
    )


def _schema(event: type[DomainEvent]) -> Mapping[str, Any]:
    try:
        return published_schema(event)
    except NO_SCHEMA:  # a system check reports it
        return {"type": "object", "properties": {name: {} for name in event.model_fields}}


def _recorded(event: type[DomainEvent]) -> dict[int, Mapping[str, Any]]:
    try:
        config = apps.get_app_config(contract_lock.label_of(event))
    except LookupError:  # its module belongs to no installed app
        return {}
    recorded = contract_lock.read(config).get(event.event_name, {})
    return {int(version): record for version, record in recorded.items()}


def described(version: EventVersion) -> dict[str, Any]:
    """Return the name and description of a message; an earlier version is deprecated."""
    made: dict[str, Any] = {
        "name": version.label,
        "title": f"{version.title}, version {version.version}",
        "contentType": "application/json",
    }
    if version.description:
        made["summary"] = version.description.splitlines()[0]
    if not version.is_newest:
        made["deprecated"] = True
        made["description"] = (
            f"An earlier version. Stored events are read as version {version.newest}."
        )
    return made
