"""DomainEvent: the base class of events, typed and immutable, named "app.ClassName"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import lru_cache
from string import Formatter
from typing import Any, ClassVar
from uuid import UUID

from django.apps import apps
from pydantic import BaseModel, ConfigDict

from .privacy.marks import MASK, is_sensitive

#: Facts that a handler may take beside the event's fields. No field may have one of these names.
FACTS = frozenset(
    {
        "event_id",
        "emitted_at",
        "correlation_id",
        "causation_id",
        "actor",
        "key",
        "event",
        "target",
        "attempt",
        "receipt",
    }
)


@dataclass(frozen=True, kw_only=True)
class EventRecord:
    """A stored event, as a handler of many kinds of events takes it: its parameter `event`.

    Attributes:
        id: the event's id (UUIDv7).
        name: "app.ClassName".
        version: version of the payload: the one that this code declares, or the stored one if this
            code does not declare the event.
        key: id of the aggregate that the event is about.
        payload: the event's fields as JSON values, brought to `version` by its upcasters.
        emitted_at: time of the emission, by the database's clock.
        correlation_id: shared by all events that follow from one request.
        causation_id: the event whose handler emitted this one.
        actor: who caused it.
        traceparent: W3C trace context of the emitter, or "".
        tracestate: W3C trace state of the emitter, or "".
        tenant: the tenant that `OUTBOX["TENANT"]` has captured, or None.
    """

    id: UUID
    name: str
    version: int
    key: str
    payload: Mapping[str, Any] = field(repr=False)
    emitted_at: datetime
    correlation_id: UUID
    causation_id: UUID | None = None
    actor: str = ""
    traceparent: str = ""
    tracestate: str = ""
    tenant: str | None = None

    @property
    def app_label(self) -> str:
        """The label of the app that declares the event."""
        return self.name.partition(".")[0]


#: The highest version that the column stores.
LAST_VERSION = 32_767
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

#: Every event class by its name. Two classes with one name are both kept: the check reports them.
registry: dict[str, list[type[DomainEvent]]] = {}


class DomainEvent(BaseModel):
    """A fact that happened, named in the past tense.

    Subclass it in your app's `events.py`. `key` is the field with the aggregate's id::

        class ParcelSent(DomainEvent, key="parcel_id"):
            \"\"\"A parcel left the house.\"\"\"

            parcel_id: UUID

    The event's name is `<app label>.ParcelSent`. Its fields are pydantic fields, stored as JSON.
    Later releases may add optional fields. Any other change needs a new event or a new `version`.
    A subclass without `key` is abstract: a base class that is never emitted.

    `share="owner:{owner_id}"` names the owner of the work. A handler with a `share_window` has at
    most that many deliveries of one share in flight. An event whose `owner_id` is None has no
    share. The same applies to `subject`.

    Fields with personal data are `Sensitive[...]`. `subject="customer:{customer_id}"` names the
    person that they belong to, by fields that hold an id. `manage.py outbox redact` uses it.

    The class statement raises `TypeError` if `key` is not a field, if `share` or `subject` names
    an unknown field or none, if `version` is not a whole number from 1 to 32,767, or if a field has
    the name of a fact (`event_id`, `emitted_at`, ...) or of an attribute of this class
    (`event_name`, `in_words`, ...).
    """

    # With another value pydantic stores NaN of an untyped field as null, without an error.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    event_name: ClassVar[str] = ""
    event_version: ClassVar[int] = 1
    event_key: ClassVar[str] = ""
    event_subject: ClassVar[str] = ""
    event_share: ClassVar[str] = ""
    #: Name of the source that stores it; "" for an event that this project emits.
    event_source: ClassVar[str] = ""
    #: Fields that have the name of a fact. A handler takes the fact, and finds the field in
    #: `event.payload`. For events whose fields a wire format names.
    event_facts: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        key: str = "",
        version: int = 1,
        subject: str = "",
        share: str = "",
        **kwargs: Any,
    ) -> None:
        """Name the event and register it."""
        super().__pydantic_init_subclass__(**kwargs)
        if not key:
            if cls.__pydantic_generic_metadata__["origin"] is None:  # `Changed[int]` is `Changed`
                cls.event_name = ""  # abstract, also as a subclass of an event with a key
            return
        _refuse_bad_fields(cls, key=key)
        _refuse_bad_version(cls, version)
        cls.event_subject, cls.event_share = subject, share
        _refuse_bad_template(cls, "subject", subject, example="customer:{customer_id}")
        _refuse_bad_template(cls, "share", share, example="owner:{owner_id}")
        label = cls.event_source or app_label(cls.__module__)
        cls.event_name = f"{label}.{cls.__name__}"
        cls.event_version = version
        cls.event_key = key
        register(cls)

    def __init_subclass__(
        cls,
        *,
        key: str = "",
        version: int = 1,
        subject: str = "",
        share: str = "",
        **kwargs: Any,
    ) -> None:
        """Accept the class keywords, which pydantic passes to both hooks."""
        super().__init_subclass__(**kwargs)

    @property
    def key(self) -> str:
        """The id of the aggregate that the event is about, as text. "" if it is None."""
        value = getattr(self, self.event_key)
        if isinstance(value, Enum):
            value = value.value  # as in the payload
        return "" if value is None else str(value)

    def stored_name(self) -> str:
        """Return the name to store it with: that of its class, and for tasks their queue's."""
        return self.event_name

    def subject_name(self) -> str:
        """Return the person of its data, "customer:7". "": its class names none, or it is None."""
        return self._filled(self.event_subject)

    def share_name(self) -> str:
        """Return the owner of the work, "owner:7". "": its class names none, or it is None."""
        return self._filled(self.event_share)

    @classmethod
    def subject_fields(cls) -> list[str]:
        """Return the names of the fields in its subject."""
        return _fields_of(cls.event_subject)

    def _filled(self, template: str) -> str:
        if not template:
            return ""
        values = {name: _in_payload(getattr(self, name)) for name in _fields_of(template)}
        return "" if any(one is None for one in values.values()) else template.format(**values)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Mask sensitive fields, because logs and tracebacks contain the repr."""
        for name, value in super().__repr_args__():
            yield name, MASK if is_sensitive(type(self), name) else value

    def in_words(self) -> str:
        """Describe the event in a few words, for the timeline. Override it to add details.

        The default is the words of its name: "Order ready to ship". Staff read it, so it must not
        contain anything that they may not see.
        """
        return words_of_name(self.event_name)


#: Attributes by which the outbox reads an event. A field of one of these names would replace it.
_OWN = frozenset(name for name in vars(DomainEvent) if not name.startswith("_")) - FACTS


def register(event: type[DomainEvent]) -> None:
    """Register an event class. A module that is loaded again replaces its own earlier class."""
    known = registry.setdefault(event.event_name, [])
    known[:] = [other for other in known if other.__module__ != event.__module__]
    known.append(event)


def find(name: str) -> type[DomainEvent] | None:
    """Return the event class with this name, or None.

    The name of a stored event may have more parts than that of its class, so that a handler can
    subscribe to some of them only: the events of `outbox.TaskEnqueued` are named
    "outbox.TaskEnqueued.default.mail".
    """
    known = registry.get(name) or registry.get(class_name_of(name))
    return known[-1] if known else None


def class_name_of(name: str) -> str:
    """Return "app.ClassName" of an event's name that may have more parts."""
    return ".".join(name.split(".", 2)[:2])


#: Separates the parts of a selector.
SEPARATOR = ", "
#: Most characters of a selector: those of the column that stores it.
LONGEST_SELECTOR = 1000


def is_pattern(part: str) -> bool:
    """Return whether a part of a selector selects more than one event: "orders.*" or "*"."""
    return part == "*" or (part.endswith(".*") and not part.startswith("!"))


def has_several_events(selector: str) -> bool:
    """Return whether a selector may select more than one event."""
    return SEPARATOR in selector or "*" in selector


@lru_cache(maxsize=8192)
def selects(selector: str, name: str) -> bool:
    """Return whether a subscription with this selector is owed events of this name.

    A selector has one or more parts. "orders.OrderPlaced" selects one event, "orders.*" all events
    of an app, "*" all events except those of the outbox itself. "!billing.*" excludes events that
    no part names.
    """
    parts = selector.split(SEPARATOR)
    if name in parts:
        return True
    excluded = [part[1:] for part in parts if part.startswith("!")]
    return any(_fits(part, name) for part in parts) and not any(
        _fits(one, name) for one in excluded
    )


def _fits(part: str, name: str) -> bool:
    label = name.partition(".")[0]
    return part in (name, f"{label}.*") or (part == "*" and label != "outbox")


def words_of_name(name: str) -> str:
    """Return an event's name as words: "Order ready to ship" for "orders.OrderReadyToShip"."""
    return " ".join(_HUMP.split(class_name_of(name).rpartition(".")[2])).capitalize()


def _refuse_bad_fields(cls: type[DomainEvent], *, key: str) -> None:
    if key not in cls.model_fields:
        raise TypeError(
            f"{cls.__name__}: key={key!r} is not a field of the event. "
            f"Its fields: {', '.join(cls.model_fields) or 'none'}."
        )
    taken = FACTS & set(cls.model_fields) - cls.event_facts
    if taken:
        raise TypeError(
            f"{cls.__name__}: {', '.join(sorted(taken))} is the name of a fact that every event "
            "has. Rename the field."
        )
    if own := _OWN & set(cls.model_fields):
        raise TypeError(
            f"{cls.__name__}: {', '.join(sorted(own))} is the name of an attribute that every "
            "event has. Rename the field. In an ExternalEvent, Field(alias=...) names it as the "
            "message does."
        )


def _refuse_bad_version(cls: type[DomainEvent], version: object) -> None:
    # Not bool, which is an int.
    if type(version) is not int or not 1 <= version <= LAST_VERSION:
        raise TypeError(
            f"{cls.__name__}: version={version!r} must be a whole number from 1 to {LAST_VERSION}. "
            "The first version is 1, and each later one is one higher."
        )


def _in_payload(value: Any) -> Any:
    """Return a value as the payload has it: that of an enum's member, others as they are."""
    return value.value if isinstance(value, Enum) else value


def _fields_of(template: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(template) if name]


def _refuse_bad_template(cls: type[DomainEvent], word: str, template: str, *, example: str) -> None:
    fields = _fields_of(template)
    for name in fields:
        if name not in cls.model_fields:
            raise TypeError(
                f"{cls.__name__}: {word}={template!r} names an unknown field, {name!r}."
            )
    if template and not fields:
        raise TypeError(
            f'{cls.__name__}: {word}={template!r} names no field. Example: {word}="{example}".'
        )


def app_label(module: str) -> str:
    """Return the label of a module's app. Without an app: the module's first package."""
    config = apps.get_containing_app_config(module)
    return config.label if config else module.partition(".")[0]
