"""The outbox's settings, `OUTBOX` in Django's: every key, its default and its unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True, kw_only=True)
class Conf:
    """Defaults of the engine; a handler's own policy stands in its `@subscribe`."""

    LEASE_SECONDS: float = 60.0
    """How long one handler may take for one delivery before it is presumed lost."""
    WINDOW: int = 2000
    """Most deliveries of one handler that are with the broker and the workers at once."""
    FIRST_WINDOW: int = 500
    """What that begins with, and is again when nothing waits: a quick handler's has more."""
    BATCH: int = 200
    """Most deliveries of an atomic handler in one message (others: one); 50 in a window of 500."""
    ATTEMPTS: int = 45
    """With the backoff below, full jitter: a day and a half on average, seldom less than a day."""
    MAX_WORKER_CRASHES: int = 5
    """Workers that may die in a handler, with no exception seen, before its delivery is dead."""
    BACKOFF_BASE: float = 2.0
    """Seconds; doubled with each attempt."""
    BACKOFF_CAP: float = 7200.0
    """Seconds; no wait is longer."""
    FAN_OUT: int = 500
    """Events that one pass of the relay fans out."""
    POLL_SECONDS: float = 1.0
    """How long the relay waits at most for a nudge before it looks by itself."""
    HEARTBEAT_SECONDS: float = 10.0
    """How often relays, workers and beat say that they live; three of these are silence."""
    NUDGE: bool = True
    """Tell the relay after each commit. Off: it looks every POLL_SECONDS."""
    GUARDS: bool | None = None
    """Raise at what breaks a rule (`outbox/guards/`). None: where DEBUG is on, and in tests."""

    RETENTION: Mapping[str, float | None] = field(default_factory=dict)
    """Days that settled events are kept, by event name; "default" for the rest. None: for ever."""
    ARCHIVE: str = ""
    """Folder where events are written to before they are pruned. Empty: nowhere."""
    ARCHIVE_SENSITIVE: bool = False
    """Write sensitive fields to the archive, which redaction does not reach. Off: blanks."""

    TRACING: bool = False
    """Trace by OpenTelemetry. Off: it is not imported."""
    TRACE_URL: str = ""
    """Where a trace is shown, with `{trace_id}` in it: the admin links to it. Empty: nowhere."""
    METRICS_TOKEN: str = field(default="", repr=False)
    """What a scraper of `/metrics` has to bring. Empty: nothing is counted, nothing answers."""


def conf(*, lenient: bool = False) -> Conf:
    """Return the settings in force.

    Raises `ImproperlyConfigured` for a key that does not exist; `lenient` leaves it out instead,
    while apps load, so that the system check can tell of it.
    """
    given = getattr(settings, "OUTBOX", {})
    known = {field.name for field in fields(Conf)}
    unknown = set(given) - known
    if unknown and not lenient:
        raise ImproperlyConfigured(
            f"OUTBOX has no setting {', '.join(sorted(unknown))}. "
            f"It has {', '.join(field.name for field in fields(Conf))}."
        )
    return Conf(**{name: value for name, value in given.items() if name in known})
