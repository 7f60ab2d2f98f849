"""The catalogue: every event that this code declares, with its source place and handlers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outbox import events, subscriptions
from outbox.events import DomainEvent
from outbox.formatting import retry_policy
from outbox.subscriptions import Handler

from .json_schemas import NO_SCHEMA, written_schema

# A dotted name outside quotes. The quoted alternative is first, so that quotes are skipped.
_QUOTED_OR_DOTTED = re.compile(r"""('[^']*'|"[^"]*")|\b(?:\w+\.)+(?=\w)""")


@dataclass(frozen=True, kw_only=True)
class CatalogueField:
    """A field of an event. `type` is short, "list[OrderLine]"; `is_optional`: it has a default."""

    name: str
    type: str
    is_optional: bool
    description: str
    schema: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class CatalogueHandler:
    """A handler of the event; `place` is its "path:line", `reads` its parameters."""

    name: str
    place: str
    queue: str
    reads: tuple[str, ...]
    atomic: bool
    batch: int
    window: int
    lease: float
    attempts: int | None
    backoff_base: float
    backoff_cap: float

    @property
    def policy(self) -> str:
        """The delivery options and retry policy, in one line."""
        return ", ".join(
            (
                "atomic" if self.atomic else "with a receipt",
                f"{self.batch} in a message",
                f"{self.window} in flight",
                f"lease {self.lease:g} s",
                retry_policy(self.attempts, self.backoff_base, self.backoff_cap),
            )
        )


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """An event that this code declares.

    Attributes:
        name: "app.ClassName".
        version: the version of its fields' meaning.
        key: the name of its key field.
        description: its docstring.
        place: "path:line" of its class, relative to the working directory where possible.
        fields: its fields in the order of declaration, computed ones last.
        handlers: its handlers in the order of registration.
        schema: the JSON Schema (2020-12) of the stored payload.
    """

    name: str
    version: int
    key: str
    description: str
    place: str
    fields: tuple[CatalogueField, ...]
    handlers: tuple[CatalogueHandler, ...]
    schema: Mapping[str, Any] = field(repr=False)


def catalogue() -> list[CatalogueEntry]:
    """Return every event of the installed apps by name, with its handlers.

    Errors of `manage.py check` are not shown: subscriptions to undeclared events are left out, and
    of two classes with one name the later one is returned.
    """
    return [_entry(name, declared[-1]) for name, declared in sorted(events.registry.items())]


def place(thing: type[Any] | Handler | Callable[..., Any]) -> str:
    """Return "path:line" of a class, a handler or a function, relative to the working directory.

    Files outside it keep their full path. Without a source file, return the module's name.
    """
    source = inspect.unwrap(thing.function) if isinstance(thing, Handler) else thing
    try:
        path = Path(inspect.getsourcefile(source) or "").resolve()
        line = inspect.getsourcelines(source)[1]
    except (OSError, TypeError):  # defined by exec() or in a shell
        return source.__module__
    here = Path.cwd().resolve()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{line}"


def type_name(kind: Any) -> str:
    """Return a type without module names: "list[OrderLine]", "UUID | None"."""
    if isinstance(kind, type) and not hasattr(kind, "__origin__"):
        return kind.__name__
    return _QUOTED_OR_DOTTED.sub(lambda match: match[1] or "", str(kind))


def _entry(name: str, event: type[DomainEvent]) -> CatalogueEntry:
    schema = _schema(event)
    return CatalogueEntry(
        name=name,
        version=event.event_version,
        key=event.event_key,
        description=inspect.cleandoc(event.__doc__ or ""),
        place=place(event),
        fields=tuple(_field(event, name, part) for name, part in schema["properties"].items()),
        handlers=tuple(_handler(one) for one in subscriptions.registry if one.handles(name)),
        schema=schema,
    )


def _schema(event: type[DomainEvent]) -> dict[str, Any]:
    try:
        return written_schema(event)
    except NO_SCHEMA:  # a system check reports it; the entry stays
        return {"properties": {name: {} for name in event.model_fields}}


def _field(event: type[DomainEvent], name: str, schema: Mapping[str, Any]) -> CatalogueField:
    declared = event.model_fields.get(name)
    kind = declared.annotation if declared else event.model_computed_fields[name].return_type
    return CatalogueField(
        name=name,
        type=type_name(kind),
        is_optional=declared is not None and not declared.is_required(),
        description=schema.get("description", ""),
        schema=schema,
    )


def _handler(handler: Handler) -> CatalogueHandler:
    return CatalogueHandler(
        name=handler.name,
        place=place(handler),
        queue=handler.queue,
        reads=tuple(handler.parameters),
        atomic=handler.atomic,
        batch=handler.batch,
        window=handler.window,
        lease=handler.lease,
        attempts=handler.attempts,
        backoff_base=handler.backoff_base,
        backoff_cap=handler.backoff_cap,
    )
