"""The outbox's settings, `OUTBOX` in Django's settings: every key, its default and its unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True, kw_only=True)
class Conf:
    """Defaults of the engine. The `@subscribe` of a handler overrides them."""

    LEASE_SECONDS: float = 60.0
    """Seconds that one handler may take for one delivery before the delivery is presumed lost."""
    WINDOW: int = 2000
    """Most deliveries of one handler that are with the broker and the workers at the same time."""
    FIRST_WINDOW: int = 500
    """Window of a new handler, and of each handler without a backlog.

    With a backlog, the window of a fast handler grows up to `WINDOW`.
    """
    BATCH: int = 200
    """Most deliveries in one message of an atomic handler; 50 in a window of 500. Others: one."""
    ATTEMPTS: int = 45
    """Attempts before dead. With full jitter below: 33 hours on average, seldom less than 24."""
    MAX_WORKER_CRASHES: int = 5
    """Workers that may die in a handler, without an exception, before its delivery is dead."""
    BACKOFF_BASE: float = 2.0
    """Longest wait before the second attempt, in seconds. It doubles with each attempt."""
    BACKOFF_CAP: float = 7200.0
    """Longest wait between two attempts, in seconds."""
    FAN_OUT: int = 500
    """Most events that one pass of the relay fans out."""
    POLL_SECONDS: float = 1.0
    """Longest wait of the relay for a nudge, in seconds. Then it polls."""
    HEARTBEAT_SECONDS: float = 10.0
    """Seconds between heartbeats of a relay, worker or beat. Three missed ones mean silence."""
    TARGET_LAG_SECONDS: float = 30.0
    """Seconds within which the wanted number of workers runs the due deliveries of a queue."""
    TRANSPORTS: Sequence[str] = ()
    """Transports in use: "celery", and "local" for `outbox work`. Empty: Celery if installed."""
    DATABASES: Sequence[str] = ()
    """Aliases of the databases with an outbox each, the default one first. Empty: the router's."""
    READ_FROM: str | Mapping[str, str] = ""
    """Alias of a replica that the monitor's pages read; or a replica for each database."""
    TENANT: Mapping[str, Any] = field(default_factory=dict)
    """Functions that capture and restore the tenant: see `docs/how-to/serve-tenants.md`."""
    NUDGE: bool = True
    """Nudge the relay after each commit. Off: it polls every POLL_SECONDS."""
    GUARDS: bool | None = None
    """Raise if code breaks a rule (`outbox/guards/`). None: if DEBUG is on, and in tests."""
    GUARD_TASKS: bool = False
    """Apply the guards also to tasks that other code than handlers sends in a transaction."""

    RETENTION: Mapping[str, float | None] = field(default_factory=dict)
    """Days that settled events are kept, by event name; "default" for the rest. None: for ever."""
    ARCHIVE: str = ""
    """Folder to which events are written before they are pruned. Empty: no archive."""
    ARCHIVE_SENSITIVE: bool = False
    """Write sensitive fields to the archive, which redaction does not reach.

    Off: they are written as blanks.
    """

    SINKS: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """Sinks by name, each a dict: see `docs/how-to/publish-to-another-system.md`."""
    SOURCE: str = ""
    """`source` of published CloudEvents: the URI reference of this service, "/parcels"."""
    SCHEMA_URL: str = ""
    """`dataschema` of published CloudEvents, with {app} {event} {name} {version}. Empty: none."""
    SOURCES: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """Sources by name, each a dict: see `docs/how-to/receive-from-another-system.md`."""

    ASYNCAPI_TITLE: str = ""
    """Title of the AsyncAPI document. Empty: "Events of", with the package of ROOT_URLCONF or
    of the settings."""
    ASYNCAPI_VERSION: str = "1.0.0"
    """Version of the AsyncAPI document, which you raise as you wish."""

    TRACING: bool = False
    """Trace with OpenTelemetry. Off: OpenTelemetry is not imported."""
    TRACE_URL: str = ""
    """URL of a trace, with `{trace_id}`, to which the admin links. Empty: no links."""
    RELEASE: str = ""
    """Release of the running code, such as a version or commit, stored with failed attempts."""
    LOOKUPS: Mapping[str, str] = field(default_factory=dict)
    """Functions that find rows of your apps by a term: dotted paths, each with the term's name."""
    METRICS_TOKEN: str = field(default="", repr=False)
    """Token that a scraper of `/metrics` must send. Empty: nothing is counted or served."""
    ALERTS: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Channels and limits of alerts: see `docs/how-to/get-alerts.md`. Empty: no alerts."""


def conf(*, lenient: bool = False) -> Conf:
    """Return the settings in force.

    Raises `ImproperlyConfigured` for an unknown key. `lenient` ignores unknown keys while apps
    load, so that the system check can report them.
    """
    given = getattr(settings, "OUTBOX", {})
    for last, found in _last:
        if given == last:
            return found
    known = {field.name for field in fields(Conf)}
    unknown = set(given) - known
    if unknown and not lenient:
        raise ImproperlyConfigured(
            f"OUTBOX has no setting {', '.join(sorted(unknown))}. "
            f"The settings are {', '.join(field.name for field in fields(Conf))}."
        )
    found = Conf(**{name: value for name, value in given.items() if name in known})
    if not unknown:
        _last[:] = [(dict(given), found)]
    return found


#: The settings of the last call and its result, since `conf` is called for each statement.
_last: list[tuple[dict[str, Any], Conf]] = []
