"""The configured sources, `OUTBOX["SOURCES"]`: each entry validated.

No error quotes `OPTIONS`, which may contain credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from outbox.conf import conf
from outbox.sinks.configuration import CONSUMER
from outbox.sinks.entries import Entry

from .base import BaseSource, ExternalMessage, ReceivedMessage, Source
from .mapping import from_cloudevent, from_cloudevent_with_unsigned_headers

Unknown = Literal["keep", "drop"]

#: Returns the content of a message, or None to drop it. Raises `NotReadable`.
Mapper = Callable[[ReceivedMessage], "ExternalMessage | None"]

#: Width of the column with the source's name.
_LONGEST_NAME = 50
_KEYS = (
    "BACKEND",
    "TOPICS",
    "GROUP",
    "OPTIONS",
    "MAPPER",
    "UNKNOWN",
    "MAX_BACKLOG",
    "MAX_BYTES",
    "DEDUPLICATION_DAYS",
    "SETTLES_AS",
)


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One entry of `OUTBOX["SOURCES"]`, with its defaults filled in.

    Attributes:
        name: its key in `SOURCES`, and the first part of its events' names.
        backend: dotted path of a subclass of `Source`, or of `HttpSource`.
        topics: topics, subjects or queues that are received.
        group: processes with the same group share the messages.
        options: options of the client. They may contain credentials.
        mapper: dotted path of a mapper. "": messages are CloudEvents.
        unknown: whether a message of a type that no `ExternalEvent` declares is kept or dropped.
        max_backlog: owed deliveries of its events at which the source pauses.
        max_bytes: bytes of the largest body that is stored.
        deduplication_days: days for which the ids of messages are kept.
        settles_as: name under which this system reports events as settled. "": it does not.
    """

    name: str
    backend: str
    topics: tuple[str, ...]
    group: str
    options: Mapping[str, Any] = field(repr=False)
    mapper: str
    unknown: Unknown
    max_backlog: int
    max_bytes: int
    deduplication_days: float
    settles_as: str = ""

    @cached_property
    def backend_class(self) -> type[BaseSource]:
        """The class of its backend."""
        found: type[BaseSource] = import_string(self.backend)
        return found

    @property
    def is_pulled(self) -> bool:
        """Whether a process has to receive its messages. False: the other system calls."""
        return issubclass(self.backend_class, Source)

    @cached_property
    def read(self) -> Mapper:
        """The function that returns the content of a message."""
        if self.mapper:
            mapper: Mapper = import_string(self.mapper)
            return mapper
        backend = self.backend_class
        reader = from_cloudevent
        if not backend.headers_are_authentic:
            reader = from_cloudevent_with_unsigned_headers
        return partial(
            reader, prefix=backend.header_prefix, percent_encoded=backend.percent_encoded
        )

    def create(self) -> BaseSource:
        """Return a new instance of its backend.

        Raises:
            ImproperlyConfigured: the client library is not installed, or an option is invalid.
        """
        return self.backend_class(
            self.name, topics=self.topics, group=self.group, options=self.options
        )


def configured() -> dict[str, SourceConfig]:
    """Return the sources of the settings by name.

    Raises:
        ImproperlyConfigured: an entry is invalid. The text names it, the cause and the next step.
    """
    global _read
    given = getattr(settings, "OUTBOX", {})
    if _read is None or _read[0] is not given:
        _read = (given, _configured(conf(lenient=True).SOURCES))
    return dict(_read[1])


#: The value of the setting that was read last, and its sources.
_read: tuple[object, dict[str, SourceConfig]] | None = None


def names() -> set[str]:
    """Return the names of the configured sources, also of invalid ones. Never raises."""
    given = getattr(settings, "OUTBOX", {}).get("SOURCES", {})
    return {str(name) for name in given} if isinstance(given, Mapping) else set()


def received_sources() -> list[str]:
    """Return the names of the sources that a process has to receive. Never raises."""
    try:
        return sorted(name for name, source in configured().items() if source.is_pulled)
    except ImproperlyConfigured:  # a system check reports it
        return []


def _configured(given: object) -> dict[str, SourceConfig]:
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(
            'OUTBOX["SOURCES"] must be a dict: the name of a source to its dict.'
        )
    return {name: _config(name, one) for name, one in given.items()}


def _config(name: object, given: object) -> SourceConfig:
    if not isinstance(name, str) or not name.isidentifier() or len(name) > _LONGEST_NAME:
        raise ImproperlyConfigured(
            f'OUTBOX["SOURCES"] has the invalid name {name!r}. It is the first part of event '
            'names, "billing.InvoicePaid". Use letters, digits and "_", begin with a letter, and '
            f"use at most {_LONGEST_NAME} characters."
        )
    entry = Entry(f'OUTBOX["SOURCES"]["{name}"]', given, _KEYS)
    backend = _backend(entry)
    unknown: Any = entry.choice("UNKNOWN", ("keep", "drop")) or "keep"
    backend.validate_options(name, entry.options())
    return SourceConfig(
        name=name,
        backend=entry.text("BACKEND"),
        topics=_topics(entry, backend),
        group=_group(entry, backend),
        options=entry.options(),
        mapper=_mapper(entry),
        unknown=unknown,
        max_backlog=entry.whole("MAX_BACKLOG", default=10_000) or 0,
        max_bytes=entry.whole("MAX_BYTES", default=1_048_576) or 0,
        deduplication_days=entry.days("DEDUPLICATION_DAYS", default=30.0),
        settles_as=_settles_as(entry),
    )


def _backend(entry: Entry) -> type[BaseSource]:
    path = entry.text("BACKEND")
    found = entry.imported("BACKEND", path)
    if not isinstance(found, type) or not issubclass(found, BaseSource):
        raise entry.invalid("BACKEND", f"{path} is no subclass of outbox.sources.Source")
    return found


def _topics(entry: Entry, backend: type[BaseSource]) -> tuple[str, ...]:
    if not backend.needs_topics:
        return ()
    return entry.texts("TOPICS", proper="a list of the topics, subjects or queues to receive")


def _group(entry: Entry, backend: type[BaseSource]) -> str:
    return entry.text("GROUP", default=None if backend.needs_group else "")


def _settles_as(entry: Entry) -> str:
    name = entry.text("SETTLES_AS", default="")
    if name and not CONSUMER.fullmatch(name):
        raise entry.invalid(
            "SETTLES_AS", f'the name {name!r} does not fit; use letters, digits, "-", "_" and "."'
        )
    return name


def _mapper(entry: Entry) -> str:
    path = entry.text("MAPPER", default="")
    if path and not callable(entry.imported("MAPPER", path)):
        raise entry.invalid("MAPPER", f"{path} is not callable")
    return path
