"""The configured sinks, `OUTBOX["SINKS"]`: each entry validated, and one `Sink` per process.

No error quotes `OPTIONS`, which may contain credentials.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from outbox.conf import Conf, conf
from outbox.events import LONGEST_SELECTOR, SEPARATOR, is_pattern, selects
from outbox.policy import SettledBy

from .base import Encoding, Sink
from .entries import Entry
from .topics import SCHEMA_FIELDS, TOPIC_FIELDS, refuse_bad_template

CLOUDEVENTS = "cloudevents"
DEBEZIUM = "debezium"

#: Topic of a sink without TOPIC, by format.
_TOPICS = {DEBEZIUM: "outbox.event.{app}"}
_TOPIC = "{name}"

_HANDLERS = "sinks."
#: Seconds of one call, unless `TIMEOUT_SECONDS` is set.
_TIMEOUT = 10.0
_LONGEST_NAME = 100
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_KEYS = (
    "BACKEND",
    "EVENTS",
    "TOPIC",
    "OPTIONS",
    "FORMAT",
    "ENCODING",
    "ORDERED",
    "SENSITIVE",
    "QUEUE",
    "BATCH",
    "WINDOW",
    "LEASE_SECONDS",
    "TIMEOUT_SECONDS",
    "ATTEMPTS",
    "CONSUMERS",
    "SETTLE_SECONDS",
    "SETTLE_REPLAYS",
)
#: Name of a system that settles events: `CONSUMERS` of a sink, `SETTLES_AS` of a source.
CONSUMER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
#: Characters of the column with the names of a sink's consumers.
_LONGEST_CONSUMERS = 1000
#: Characters that RFC 3986 allows in a URI reference.
_URI_REFERENCE = re.compile(r"([A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, kw_only=True)
class SinkConfig:
    """One entry of `OUTBOX["SINKS"]`, with its defaults filled in.

    Attributes:
        name: its key in `SINKS`.
        backend: dotted path of a subclass of `Sink`.
        events: "app.ClassName", "app.*" or "*".
        topic: template of the destination.
        options: options of the client. They may contain credentials.
        format: "cloudevents", "debezium", or the dotted path of a mapper.
        encoding: encoding of CloudEvents. None: the backend's.
        ordered: whether events of one key are sent one after the other.
        sensitive: whether sensitive fields are sent. False: they are omitted.
        queue: the Celery queue of its deliveries.
        batch: most messages in one call of the backend.
        window: most deliveries in flight. None: `OUTBOX["WINDOW"]`.
        lease: seconds after which a sent delivery is presumed lost.
        timeout: most seconds of one call of the backend.
        attempts: attempts before a delivery is dead. None: no limit.
        settled_by: the systems that report its events as settled; None: none.
    """

    name: str
    backend: str
    events: tuple[str, ...]
    topic: str
    options: Mapping[str, Any] = field(repr=False)
    format: str
    encoding: Encoding | None
    ordered: bool
    sensitive: bool
    queue: str
    batch: int
    window: int | None
    lease: float
    timeout: float
    attempts: int | None
    settled_by: SettledBy | None = None

    @property
    def handler(self) -> str:
        """Pinned name of its handler."""
        return f"{_HANDLERS}{self.name}"

    @property
    def is_mapped(self) -> bool:
        """Whether a mapper, which is code of the project, makes its messages."""
        return self.format not in (CLOUDEVENTS, DEBEZIUM)

    @property
    def selectors(self) -> tuple[str, ...]:
        """The events that its handler subscribes to.

        `*` alone excludes the events of sources. Otherwise the system that sent them could get
        them back.
        """
        if "*" not in self.events:
            return self.events
        named = {one.partition(".")[0] for one in self.events if is_pattern(one)}
        sources = sorted(set(getattr(conf(lenient=True), "SOURCES", {})) - named)
        return (*self.events, *(f"!{label}.*" for label in sources))

    def accepts(self, event_name: str) -> bool:
        """Return whether it publishes events of this name."""
        return selects(SEPARATOR.join(self.selectors), event_name)


def sink_name(handler: str) -> str:
    """Return the name of the sink of a handler, or "" for another handler."""
    return handler.removeprefix(_HANDLERS) if handler.startswith(_HANDLERS) else ""


def configured() -> dict[str, SinkConfig]:
    """Return the sinks of the settings by name.

    Raises:
        ImproperlyConfigured: an entry is invalid. The text names it, the cause and the next step.
    """
    global _read
    given = getattr(settings, "OUTBOX", {})
    if _read is None or _read[0] is not given:
        _read = (given, _configured(conf(lenient=True)))
    return dict(_read[1])


#: The value of the setting that was read last, and its sinks.
_read: tuple[object, dict[str, SinkConfig]] | None = None


def _configured(outbox: Conf) -> dict[str, SinkConfig]:
    if not isinstance(outbox.SINKS, Mapping):
        raise ImproperlyConfigured('OUTBOX["SINKS"] must be a dict: name of a sink to its dict.')
    made = {name: _config(name, given, outbox) for name, given in outbox.SINKS.items()}
    if any(one.format == CLOUDEVENTS for one in made.values()):
        refuse_bad_source(outbox.SOURCE)
        refuse_bad_template('OUTBOX["SCHEMA_URL"]', str(outbox.SCHEMA_URL), SCHEMA_FIELDS)
    return made


def refuse_bad_source(source: object) -> None:
    """Raise `ImproperlyConfigured` unless this is a non-empty URI reference."""
    if not isinstance(source, str) or not _URI_REFERENCE.fullmatch(source):
        raise ImproperlyConfigured(
            f'OUTBOX["SOURCE"] is {source!r}. It must be a URI reference without spaces, since it '
            "is the attribute `source` of each CloudEvent. Set it to a name of this service, for "
            'example "/parcels" or "https://parcels.example.com".'
        )


def _config(name: object, given: object, outbox: Conf) -> SinkConfig:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise ImproperlyConfigured(
            f'OUTBOX["SINKS"] has the invalid name {name!r}. Use letters, digits, "-" and "_", '
            f"begin with a letter, and use at most {_LONGEST_NAME} characters."
        )
    entry = Entry(f'OUTBOX["SINKS"]["{name}"]', given, _KEYS)
    format_ = _format(entry)
    encoding: Any = entry.choice("ENCODING", get_args(Encoding))
    lease = entry.seconds("LEASE_SECONDS", default=outbox.LEASE_SECONDS)
    config = SinkConfig(
        name=name,
        backend=entry.text("BACKEND"),
        events=_events(entry),
        topic=_topic(entry, format_),
        options=entry.options(),
        format=format_,
        encoding=encoding,
        ordered=entry.flag("ORDERED", default=True),
        sensitive=entry.flag("SENSITIVE", default=False),
        queue=entry.text("QUEUE", default="outbox.sinks"),
        batch=_batch(entry, _backend(entry)),
        window=entry.whole("WINDOW", default=None),
        lease=lease,
        timeout=_timeout(entry, lease=lease),
        attempts=entry.whole("ATTEMPTS", default=outbox.ATTEMPTS, no_limit=True),
        settled_by=_settled_by(entry),
    )
    _refuse_long_selector(entry, config)
    return config


def _settled_by(entry: Entry) -> SettledBy | None:
    seconds = entry.seconds("SETTLE_SECONDS", default=300.0)
    replays = entry.whole("SETTLE_REPLAYS", default=3, least=0) or 0
    if not entry.has("CONSUMERS"):
        return None
    consumers = entry.texts("CONSUMERS", proper="a list of names of consumers")
    for one in consumers:
        if not CONSUMER.fullmatch(one):
            proper = 'use letters, digits, "-", "_" and "."'
            raise entry.invalid("CONSUMERS", f"the name {one!r} does not fit; {proper}")
    if len(",".join(consumers)) > _LONGEST_CONSUMERS:
        reason = f"the names have more than {_LONGEST_CONSUMERS} characters"
        raise entry.invalid("CONSUMERS", reason)
    return SettledBy(consumers=consumers, seconds=seconds, replays=replays)


def _refuse_long_selector(entry: Entry, config: SinkConfig) -> None:
    length = len(SEPARATOR.join(config.selectors))
    if length > LONGEST_SELECTOR:
        of_sources = ", and of the sources that it leaves out," if "*" in config.events else ""
        raise entry.invalid(
            "EVENTS",
            f"the names of its events{of_sources} have {length} characters with separators; the "
            f'limit is {LONGEST_SELECTOR}. Use patterns, as "app.*", or several sinks',
        )


def _backend(entry: Entry) -> type[Sink]:
    path = entry.text("BACKEND")
    found = entry.imported("BACKEND", path)
    if not isinstance(found, type) or not issubclass(found, Sink):
        raise entry.invalid("BACKEND", f"{path} is no subclass of outbox.sinks.base.Sink")
    return found


def _events(entry: Entry) -> tuple[str, ...]:
    proper = 'a list of "app.ClassName", "app.*" or "*"'
    events = entry.texts("EVENTS", proper=proper)
    for one in events:
        if not _is_pattern(one):
            raise entry.invalid("EVENTS", f"{one!r} does not fit; it must be {proper}")
    return events


def _is_pattern(given: str) -> bool:
    app, dot, event = given.partition(".")
    is_of_app = bool(dot) and app.isidentifier() and (event == "*" or event.isidentifier())
    return given == "*" or is_of_app


def _topic(entry: Entry, format_: str) -> str:
    default = _TOPICS.get(format_, _TOPIC)
    topic = entry.text("TOPIC", default=default) or default
    refuse_bad_template(entry.name("TOPIC"), topic, TOPIC_FIELDS)
    return topic


def _format(entry: Entry) -> str:
    given = entry.text("FORMAT", default=CLOUDEVENTS)
    if given in (CLOUDEVENTS, DEBEZIUM):
        return given
    if "." not in given:
        proper = f'use "{CLOUDEVENTS}", "{DEBEZIUM}" or the dotted path of a mapper'
        raise entry.invalid("FORMAT", f"{given!r} is unknown; {proper}")
    if not callable(entry.imported("FORMAT", given)):
        raise entry.invalid("FORMAT", f"{given} is not callable")
    return given


def _timeout(entry: Entry, *, lease: float) -> float:
    """Return the seconds of one call. The rest of the lease is for receipts and a second call."""
    timeout = entry.seconds("TIMEOUT_SECONDS", default=min(_TIMEOUT, lease / 2))
    if timeout > lease / 2:
        most = f"it must be at most half of the lease of {lease:g} s"
        raise entry.invalid("TIMEOUT_SECONDS", f"{timeout:g} is too long; {most}")
    return timeout


def _batch(entry: Entry, backend: type[Sink]) -> int:
    batch = entry.whole("BATCH", default=backend.max_batch) or backend.max_batch
    if batch > backend.max_batch:
        most = f"{backend.__name__} sends at most {backend.max_batch} messages in one call"
        raise entry.invalid("BATCH", most)
    return batch


def backend_of(config: SinkConfig) -> type[Sink]:
    """Return the class of a sink's backend."""
    found: type[Sink] = import_string(config.backend)
    return found


def sink_of(config: SinkConfig) -> Sink:
    """Return this process's instance of a sink.

    Raises:
        ImproperlyConfigured: the client library is not installed, or an option is invalid.
    """
    with _lock:
        known = _sinks.get(config.name)
        if known is not None and known[0] == config:
            return known[1]
        made = backend_of(config)(config.name, config.options)
        made.ordered = config.ordered
        _sinks[config.name] = (config, made)
    if known is not None:  # the settings were changed
        known[1].close()
    return made


def close_sinks() -> None:
    """Close all sinks of this process, at its end."""
    with _lock:
        closed = [sink for _config, sink in _sinks.values()]
        _sinks.clear()
    for sink in closed:
        sink.close()


_lock = threading.Lock()
_sinks: dict[str, tuple[SinkConfig, Sink]] = {}
#: Sinks of the parent process. The child keeps them, as their removal could close its connections.
_of_parent: list[Any] = []


def _renew() -> None:
    global _lock
    _lock = threading.Lock()
    _of_parent.append(dict(_sinks))
    _sinks.clear()


os.register_at_fork(after_in_child=_renew)
