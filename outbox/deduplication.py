"""Deduplication keys of `emit`: one event of a name for each key, while that event exists.

A key has a row of its own, since its event may be in the table of events or of delayed events. The
row is inserted before the event. On PostgreSQL a second transaction waits there for the first one:
if that commits, the key is used; if it rolls back, the second one stores its event.
https://www.postgresql.org/docs/current/sql-insert.html#SQL-ON-CONFLICT
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.apps import apps
from django.db import connections

from .deliveries.statements import execute
from .ids import first_id_at

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from .models import DelayedEvent, Event

logger = logging.getLogger("outbox.emission")

#: Keys that `forget_unused` reads at once.
_PAGE = 500
#: The last event id that `forget_unused` of this process has read, by database alias.
_read_until: dict[str, UUID] = {}


class DedupeKeyReused(ValueError):
    """A `dedupe_key` was used for another aggregate, so the event is not a repetition."""


def claim(dedupe_key: str, facts: Mapping[str, Any], *, using: str) -> UUID | None:
    """Claim a key for an event, in the caller's transaction.

    Args:
        dedupe_key: the caller's key. Keys of different event names are different.
        facts: the facts of the event that is to be stored.
        using: the database alias.

    Returns:
        None: it is claimed, and the caller stores the event. Otherwise the id of the first event.

    Raises:
        TypeError: the key is no text.
        ValueError: the key is empty.
        DedupeKeyReused: the first event has another `key`.
    """
    if not isinstance(dedupe_key, str):  # the text of an object may contain its address
        raise TypeError(
            f"{facts['name']}: dedupe_key= is a {type(dedupe_key).__name__}. Pass a text, such as "
            "str() of an id."
        )
    if not dedupe_key:
        raise ValueError(f"{facts['name']}: dedupe_key= is empty. Pass a text, or leave it out.")
    keys = apps.get_model("outbox", "DedupeKey")._default_manager.using(using)
    digest = _digest(facts["name"], dedupe_key, tenant=facts.get("tenant"))
    while not _insert(digest, facts["id"], using=using):
        used_by = keys.filter(pk=digest).values_list("event", flat=True).first()
        if used_by is None:  # removed since the INSERT
            continue
        first = _stored(used_by, using=using)
        if first is not None:
            _compare(first, facts)
            return first.id
        if keys.filter(pk=digest, event=used_by).update(event=facts["id"]):
            return None
    return None


def forget(events: Sequence[UUID], *, using: str) -> None:
    """Delete the keys of events that are removed, in the caller's transaction."""
    keys = apps.get_model("outbox", "DedupeKey")._default_manager.using(using)
    keys.filter(event__in=events).delete()


def forget_unused(
    *,
    before: datetime,
    until: float,
    after_page: Callable[[], object] = lambda: None,
    using: str,
) -> int:
    """Delete the keys of events that an earlier release has removed; return how many.

    It reads the keys whose event was emitted before a time: such an id begins with its time. A key
    that another transaction claims meanwhile gets another event, and stays.

    Args:
        before: only keys of events that were emitted before it.
        until: time of `time.monotonic` at which it ends, after a page at the earliest: pruning may
            use up the time of each run. The next call in this process continues.
        after_page: called after each page of keys.
        using: the database alias.
    """
    keys = apps.get_model("outbox", "DedupeKey")._default_manager.using(using)
    old = keys.filter(event__lt=first_id_at(before)).order_by("event")
    deleted = 0
    while True:
        after = _read_until.pop(using, UUID(int=0))
        page = list(old.filter(event__gt=after).values_list("event", flat=True)[:_PAGE])
        # One statement reads both tables, so a delayed event that moves is in one of them.
        stored = _ids("Event", page, using=using).union(_ids("DelayedEvent", page, using=using))
        deleted += keys.filter(event__in=set(page).difference(stored)).delete()[0]
        if len(page) < _PAGE:
            break
        _read_until[using] = page[-1]
        after_page()
        if time.monotonic() >= until:
            break
    return deleted


def _ids(name: str, ids: Sequence[UUID], *, using: str) -> QuerySet[Any, UUID]:
    rows = apps.get_model("outbox", name)._default_manager.using(using)
    found: QuerySet[Any, UUID] = rows.filter(id__in=ids).values_list("id", flat=True)
    return found


def _digest(name: str, dedupe_key: str, *, tenant: str | None) -> str:
    # Tenants have primary keys of their own, so the same key in two tenants is about two things.
    # Without a tenant it is the digest of earlier releases. No event's name begins with "[".
    text = json.dumps([tenant, name, dedupe_key]) if tenant else f"{name}\0{dedupe_key}"
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _insert(digest: str, event_id: UUID, *, using: str) -> bool:
    field = apps.get_model("outbox", "DedupeKey")._meta.get_field("event")
    value = field.get_db_prep_save(event_id, connections[using])
    return execute(_INSERT, digest, value, using=using) == 1


def _stored(event_id: UUID, *, using: str) -> Event | DelayedEvent | None:
    # A due event moves from the first table to the second. In this order it is found.
    for name in ("DelayedEvent", "Event"):
        rows = apps.get_model("outbox", name)._default_manager.using(using)
        row: Event | DelayedEvent | None = rows.filter(id=event_id).first()
        if row is not None:
            return row
    return None


def _compare(first: Event | DelayedEvent, facts: Mapping[str, Any]) -> None:
    """Refuse an event of another aggregate; log the names of fields with other values."""
    if first.key != facts["key"]:
        raise DedupeKeyReused(
            f"{facts['name']} {facts['key']}: its dedupe_key belongs to event {first.id} of "
            f"{first.key}. Include the key of the aggregate in dedupe_key=."
        )
    if first.version != facts["version"] or getattr(first, "redacted_at", None):
        return
    payload = facts["payload"]
    names = [name for name in payload if payload[name] != first.payload.get(name)]
    if names:
        logger.warning(
            "%s %s is not stored: its dedupe_key was used by event %s, with other values of %s.",
            facts["name"],
            facts["key"],
            first.id,
            ", ".join(names),
        )


_INSERT = "INSERT INTO outbox_dedupekey (digest, event) VALUES (%s, %s) ON CONFLICT DO NOTHING"
