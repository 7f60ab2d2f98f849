"""Search by one term: a key, an id of an event, delivery, correlation or trace, or an app's term.

Apps declare their own terms, such as a reference or an e-mail address, in `OUTBOX["LOOKUPS"]`. A
term may be personal data, so nothing here logs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

from django.db import connections
from django.db.models import Model, QuerySet
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from outbox import databases, tenants
from outbox.conf import conf
from outbox.models import DelayedEvent, Delivery, Event

from .tenants import has_events

#: Maximum of rows of each kind.
MOST = 50
#: Maximum of characters of a term: the longest e-mail address has 254.
LONGEST = 300

_TRACE = re.compile(r"[0-9a-fA-F]{32}")

Lookup = Callable[[str], Iterable[Model]]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The rows that match a term.

    Attributes:
        rows: rows of the apps, from `OUTBOX["LOOKUPS"]`.
        keys: keys of events that equal the term.
        events: events with this id or trace id.
        delayed: delayed events with this id.
        deliveries: deliveries with this id.
        correlation: the term, if it is a correlation id.
        tenant: the term, if it is a tenant that has events.
    """

    rows: list[Model] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    delayed: list[DelayedEvent] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    correlation: UUID | None = None
    tenant: str = ""


def find(term: str, *, using: str | None = None) -> Found:
    """Return all that a term matches exactly, at most `MOST` of each kind.

    Cost: at most nine queries by an index, and those of the lookups.
    """
    using = using or databases.alias()
    term = cleaned(term)
    if not term or len(term) > LONGEST:
        return Found()
    uuid = _as_uuid(term)
    events, delayed = Event.objects.using(using), DelayedEvent.objects.using(using)
    spellings = {term, str(uuid)} if uuid else {term}
    return Found(
        rows=_rows(term),
        keys=[one for one in sorted(spellings) if events.filter(key=one).exists()],
        events=[*(events.filter(id=uuid) if uuid else ()), *_of_trace(term, events)],
        delayed=list(delayed.filter(id=uuid)) if uuid else [],
        deliveries=_deliveries(term, using=using),
        correlation=uuid if uuid and events.filter(correlation_id=uuid).exists() else None,
        tenant=term if tenants.is_on() and has_events(term, using=using) else "",
    )


def cleaned(term: str) -> str:
    """Return the term without surrounding space and without NUL, which PostgreSQL refuses."""
    return term.replace("\0", "").strip()


def searched() -> list[str]:
    """Return the kinds of terms that `find` knows."""
    return [
        *(str(name) for name in conf().LOOKUPS.values()),
        _("key of an event"),
        _("event id"),
        _("delivery id"),
        _("correlation id"),
        _("trace id"),
        *([_("tenant")] if tenants.is_on() else []),
    ]


def _rows(term: str) -> list[Model]:
    found: dict[tuple[type[Model], object], Model] = {}
    for path in conf().LOOKUPS:
        lookup: Lookup = import_string(path)
        rows = lookup(term)
        # Iterating over a query set reads all of its rows.
        few = rows[:MOST] if isinstance(rows, QuerySet) else islice(rows, MOST)
        for row in few:
            found[type(row), row.pk] = row
    return list(found.values())[:MOST]


def _deliveries(term: str, *, using: str) -> list[Delivery]:
    if not (term.isascii() and term.isdigit() and len(term) < 19):
        return []
    rows = Delivery.objects.using(using).select_related("subscription", "event")
    return list(rows.filter(pk=int(term)).defer("event__payload"))


def _of_trace(term: str, events: QuerySet[Event, Event]) -> list[Event]:
    """Return the events of a trace, by the index of trace contexts."""
    if not _TRACE.fullmatch(term):
        return []
    prefix = f"00-{term.lower()}-"
    rows = events.filter(traceparent__startswith=prefix, traceparent__gt="")
    if connections[events.db].vendor == "sqlite":  # LIKE uses no index there
        rows = rows.filter(traceparent__gte=prefix, traceparent__lt=f"{prefix}g")
    return sorted(rows[:MOST], key=lambda event: event.seq)


def _as_uuid(term: str) -> UUID | None:
    try:
        return UUID(term)
    except ValueError:
        return None
