"""Checks of one event: its JSON form, its sensitive fields, and its versions. The messages:

E011 its fields cannot be resolved or described
E020 a step of its chain of upcasters is missing
E021 an upcaster is for an event or version that does not exist, or two are for one step
E022 it changed other than by an optional field (contracts/lock.py), or its lock is invalid
E024 its key, or a field of its subject, is sensitive
E025 a sensitive field's type does not accept the value that redaction would store
E031 a field is a secret of pydantic, which is stored as asterisks
W020 events.lock.json lacks something that the code declares
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Warning
from pydantic import ValidationError

from outbox import events
from outbox.contracts import lock as contract_lock
from outbox.contracts import upcasting
from outbox.contracts.catalogue import place
from outbox.contracts.json_schemas import NO_SCHEMA, written_schema
from outbox.contracts.schema_parts import alternatives, item
from outbox.contracts.upcasting import Upcaster
from outbox.events import DomainEvent
from outbox.formatting import did_you_mean
from outbox.privacy.marks import MARK, schema_of
from outbox.privacy.sensitive import Schema, blank

from .handlers import first_line


def check_event(event: type[DomainEvent]) -> Iterator[CheckMessage]:
    """Check that the event's fields have a JSON form, and that it contains their values."""
    try:
        written_schema(event)
    except NO_SCHEMA as error:
        yield Error(
            f"The fields of {event.event_name} have no JSON form: {first_line(error)}",
            hint="Import the annotated types at the top of the module, not within "
            "`if TYPE_CHECKING:`. Use types that pydantic can write as JSON.",
            obj=place(event),
            id="outbox.E011",
        )
        return
    core: Any = event.__pydantic_core_schema__
    defs = {one["ref"]: one for one in core.get("definitions", ())}
    for name in dict.fromkeys(_secrets(core, "", defs)):
        yield _stored_as_asterisks(event, name)


def _secrets(schema: Any, field: str, defs: dict[str, Any]) -> Iterator[str]:
    """Yield the fields of a core schema that pydantic writes as asterisks, as "guest.token".

    The JSON Schema does not name them: that of `Secret[date]` is a date's, and that of a field with
    an unannotated serializer is still a secret's. Each of the definitions is visited once.
    """
    if isinstance(schema, (list, tuple)):
        for one in schema:
            yield from _secrets(one, field, defs)
    elif isinstance(schema, Mapping) and schema.get("serialization_exclude") is not True:
        kind, function = _writer(schema)
        if function.startswith("pydantic.types._serialize_secret"):
            yield field
        # The project's own serializer decides what is stored.
        elif kind != "function-plain" and (not function or function.startswith("pydantic.")):
            for part, its_field in _parts(schema, field, defs):
                yield from _secrets(part, its_field, defs)


def _writer(schema: Mapping[str, Any]) -> tuple[str, str]:
    """Return the kind of a core schema's serializer, and the dotted name of its function or ""."""
    found = schema.get("serialization")
    if not isinstance(found, Mapping):
        return "", ""
    function = found.get("function")
    names = (getattr(function, name, "") for name in ("__module__", "__qualname__"))
    return str(found.get("type")), ".".join(names) if function else ""


def _parts(
    schema: Mapping[str, Any], field: str, defs: dict[str, Any]
) -> Iterator[tuple[Any, str]]:
    """Yield the schemas in a core schema, each with the path of its field."""
    kind = schema.get("type")
    if kind == "definition-ref":
        yield defs.pop(schema["schema_ref"], None), field
    elif kind == "computed-field":
        field = _path(field, schema["property_name"])
    for key, part in schema.items():
        if key == "fields" and isinstance(part, Mapping):
            yield from ((one, _path(field, name)) for name, one in part.items())
        elif key != "definitions":
            yield part, field


def _path(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _stored_as_asterisks(event: type[DomainEvent], name: str) -> CheckMessage:
    return Error(
        f"The field {name} of {event.event_name} is a secret of pydantic (SecretStr, SecretBytes "
        "or Secret), which is stored as asterisks. Handlers would not get its value.",
        hint="Use Sensitive[str]: logs and pages show ***, and handlers get the value. Or add a "
        "field_serializer that returns the value.",
        obj=place(event),
        id="outbox.E031",
    )


def check_sensitive(event: type[DomainEvent]) -> Iterator[CheckMessage]:
    """Find sensitive fields that cannot be masked everywhere, or cannot be blanked."""
    schema = schema_of(event)
    if schema is None:
        return
    for name in (event.event_key, *event.subject_fields()):
        if schema["properties"].get(name, {}).get(MARK):
            yield _not_hidden(event, name)
    marked: set[tuple[str, ...]] = set()
    example = _example(schema, schema.get("$defs", {}), (), marked)
    for place_, message in _mismatches(event, example):
        if any(place_[: len(path)] == path for path in marked):
            yield _not_blank(event, ".".join(place_), message)


def _example(schema: Any, defs: Schema, path: tuple[str, ...], marked: set[Any]) -> Any:
    """Return a payload of blanks with all fields and one item per list; collect marked paths."""
    if schema.get(MARK):
        marked.add(path)
        return blank(schema, defs)
    kinds = [one for one in alternatives(schema, defs) if one.get("type") != "null"]
    first: Schema = kinds[0] if kinds and len(path) < 20 else {}
    if first.get(MARK):
        marked.add(path)
    elif "properties" in first:
        return {
            name: _example(part, defs, (*path, name), marked)
            for name, part in first["properties"].items()
        }
    elif first.get("type") == "array" and isinstance(item(first, 0), dict):
        return [_example(item(first, 0), defs, (*path, "0"), marked)]
    return blank(schema if not kinds else first, defs)


def _mismatches(event: type[DomainEvent], example: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    try:
        upcasting.as_event(event, example)
    except ValidationError as error:
        for one in error.errors(include_input=False):
            yield tuple(map(str, one["loc"])), one["msg"]


def _not_hidden(event: type[DomainEvent], name: str) -> CheckMessage:
    return Error(
        f"The field {name} of {event.event_name} is sensitive, and is its key or in its subject.",
        hint="Logs and lists show keys and subjects, and nothing blanks them. Use an id instead.",
        obj=place(event),
        id="outbox.E024",
    )


def _not_blank(event: type[DomainEvent], name: str, message: str) -> CheckMessage:
    return Error(
        f"The field {name} of {event.event_name} is sensitive, but does not accept the value that "
        f"redaction would store (an empty text, 0, 1970-01-01): {message}.",
        hint="Allow null, Sensitive[... | None], or validate the value before the event is made.",
        obj=place(event),
        id="outbox.E025",
    )


def check_versions(event: type[DomainEvent]) -> Iterator[CheckMessage]:
    """Find missing upcasters between version 1 and the current version of an event."""
    steps = upcasting.steps_of(event.event_name)
    for version in range(1, event.event_version):
        if version not in steps:
            yield Error(
                f"{event.event_name} is at version {event.event_version}, but no upcaster leads "
                f"from version {version} to {version + 1}. Stored events of version {version} "
                "cannot be read.",
                hint=f'Add @upcast("{event.event_name}", from_version={version}) below the class. '
                "The first version is 1.",
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
                f"It leads to version {one.from_version + 1}. Raise version= of the class.",
            )
    for one, other in combinations(upcasting.registry, 2):
        if (one.event, one.from_version) == (other.event, other.from_version):
            what = f"{one.event} from version {one.from_version}"
            yield _misplaced(
                other, f"{what}, as {one.function.__name__} does", "Remove one of the two."
            )


def check_lock(config: AppConfig) -> Iterator[CheckMessage]:
    """Compare an app's events with its lock; without a lock there is nothing to compare."""
    if not contract_lock.path_of(config).exists():
        return
    try:
        found = contract_lock.incompatible_changes(config)
        news = contract_lock.unrecorded(config)
    except ValueError as error:
        hint = "Restore it from your version control."
        yield Error(str(error), hint=hint, obj=config.label, id="outbox.E022")
        return
    yield from map(incompatible_change_message, found)
    if not found:
        yield from (_unrecorded(config, what) for what in news)


def incompatible_change_message(change: contract_lock.IncompatibleChange) -> CheckMessage:
    """Return the message about an incompatible change, with the next step."""
    event = change.event
    version = event.event_version
    return Error(
        f"{event.event_name} differs from its recorded version {version}: {change.what}.",
        hint="A version may only get new fields with a default. For any other change, set version="
        f'{version + 1} and add @upcast("{event.event_name}", from_version={version}). If no '
        f"release has emitted this version yet, remove it from {contract_lock.FILE}.",
        obj=place(event),
        id="outbox.E022",
    )


def _unrecorded(config: AppConfig, what: str) -> CheckMessage:
    return Warning(
        f"{config.label}/{contract_lock.FILE} is out of date: {what}.",
        hint="Run `manage.py outbox catalogue` and commit the file.",
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
