"""emit() and aemit(): one INSERT in the caller's transaction. Without a transaction they raise."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import connections, transaction
from django.db.models import CharField, JSONField, PositiveSmallIntegerField

from . import clock, databases, guards, tenants, tracing
from .conf import conf
from .context import check_correlation, current_cause
from .databases import is_in_coroutine, is_open, is_open_in_view, open_aliases
from .deduplication import claim
from .deliveries.key_locks import LOCKED_KEY, has_key_locks, key_number
from .events import DomainEvent
from .ids import uuid7
from .storable import UnstorableValue, storable_payload
from .subscriptions import is_ordered_event
from .transports.nudge import nudge_of

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Field

    from .models import DelayedEvent, Event

__all__ = ["NotInTransaction", "aemit", "emit"]

_AS_IT_IS = (CharField, JSONField, PositiveSmallIntegerField)


class NotInTransaction(RuntimeError):
    """emit() needs an open transaction. Put the change and emit() into one transaction.atomic()."""


class EmittedBesideTransaction(guards.RuleBroken):
    """An event was emitted while a transaction was open on a database other than the outbox's."""


def emit(
    event: DomainEvent,
    *,
    delay: timedelta | None = None,
    dedupe_key: str | None = None,
    using: str | None = None,
) -> UUID:
    """Store an event in the caller's transaction: it exists if and only if the change commits.

    Correlation id, causation id and actor are taken from the running handler or request.
    After the commit a separate thread nudges the relay. The caller never waits for it.

    Args:
        event: an instance of a `DomainEvent` subclass that has a `key`.
        delay: emit the event that much later. Until then no handler receives it, `is_owed` does
            not count it, and `cancel_delayed` can cancel it.
        dedupe_key: store one event of this name for this key, while that event exists. A second
            `emit` stores nothing. It waits for a transaction that has emitted with the key and is
            not over. A hash of the key is stored.
        using: the alias of the database that stores the event. By default it is the one of
            `OUTBOX["DATABASES"]` with an open transaction, or the router's without that setting.

    Returns:
        The event's id (UUIDv7). With a `dedupe_key` that was used: the id of the first event.

    Raises:
        NotInTransaction: no `transaction.atomic()` is open on the outbox's database. The
            transaction that Django's TestCase opens around a test does not count.
        TypeError: `event` is no event (a dictionary, a class or a name), its class is abstract (it
            has no `key`), a source stores its events, or the `dedupe_key` is no text.
        ValueError: the delay is negative or too long, or the `dedupe_key` is empty.
        DedupeKeyReused: the first event with the `dedupe_key` has another `key`.
        UnstorableValue: the key is None, a text is too long, or a value cannot be stored in every
            database.
        UnlistedDatabase: the database of `using` has no outbox.
        SeveralTransactions: several databases with an outbox have an open transaction.
        WrittenBesideReceipt: the running handler's receipt is in another database.
    """
    if not isinstance(event, DomainEvent):
        raise TypeError(_no_event(event))
    if not event.event_name:
        raise TypeError(
            f"{type(event).__name__} is abstract and cannot be emitted. Declare its key: "
            f'class {type(event).__name__}({type(event).__bases__[0].__name__}, key="...").'
        )
    if event.event_source:
        raise TypeError(
            f"{event.event_name} cannot be emitted: only the source {event.event_source} stores "
            "it. Declare an event of your own that states the same fact."
        )
    using = databases.for_emit(using)
    if not is_open(connections[using]):
        raise NotInTransaction(_why_not(using))
    if len(connections.settings) > 1 and guards.are_on():
        _refuse_other_transactions(using)
    if delay is not None and delay < timedelta(0):
        raise ValueError(f"emit(delay={delay}): the delay must not be negative.")
    facts, payload = _facts(event, using=using)
    if dedupe_key is not None and (first := claim(dedupe_key, facts, using=using)):
        return first
    if delay:
        return _insert_delayed(facts, delay, using=using)
    event_id = _insert(facts, payload, using=using)
    transaction.on_commit(nudge_of(using), using=using, robust=True)
    return event_id


async def aemit(
    event: DomainEvent,
    *,
    delay: timedelta | None = None,
    dedupe_key: str | None = None,
    using: str | None = None,
) -> UUID:
    """Emit an event from async code, as `emit`, in the transaction of the thread for queries.

    Django's asynchronous ORM methods use the same thread: `sync_to_async` chooses it. In an async
    handler it is that of the delivery's transaction. An async view has no transaction, so let it
    call a sync service: `await sync_to_async(service)()`.
    """
    return await sync_to_async(emit)(event, delay=delay, dedupe_key=dedupe_key, using=using)


def store(
    event: DomainEvent,
    *,
    using: str,
    event_id: UUID | None = None,
    tenant: str | None = tenants.CAPTURED,
) -> UUID:
    """Insert the event's row. The caller has checked that a transaction is open.

    Called by sources, reports of settlements, the correction of an event, and the test kit.
    """
    return _insert(*_facts(event, using=using, event_id=event_id, tenant=tenant), using=using)


def _insert(facts: dict[str, Any], payload: str, *, using: str) -> UUID:
    """Insert an event with a cached statement; return its id. Other columns have a default.

    The statement of an event for an ordered handler also locks its key.
    """
    # `Event(**facts).save()` takes as long in Python as the database takes for the row.
    connection = connections[using]
    with tracing.emitting(facts), connection.cursor() as cursor:
        now, more_values = clock.expression(using=using)
        is_locked = is_ordered_event(facts["name"]) and has_key_locks(connection)
        statement, fields = _statement(tuple(facts), now, using, is_locked=is_locked)
        values = [
            value if field is None else field.get_db_prep_save(value, connection)
            for field, value in zip(fields, {**facts, "payload": payload}.values(), strict=True)
        ]
        lock = [key_number(facts["key"])] if is_locked else []
        cursor.execute(statement, values + more_values + lock)
    stored_id: UUID = facts["id"]
    return stored_id


@cache
def _statement(
    names: tuple[str, ...], now: str, using: str, *, is_locked: bool
) -> tuple[str, list[Field[Any, Any] | None]]:
    """Return the INSERT statement for these fields and `emitted_at`, and the model's fields.

    None stands for a field whose value the driver takes as it is: text, JSON text and numbers.
    """
    connection = connections[using]
    quote = connection.ops.quote_name
    meta = _event_model()._meta
    fields = [cast("Field[Any, Any]", meta.get_field(name)) for name in names]
    columns = ", ".join([*(quote(str(field.column)) for field in fields), quote("emitted_at")])
    into = f"{quote(meta.db_table)} ({columns})"
    converted = [None if isinstance(field, _AS_IT_IS) else field for field in fields]
    if is_locked:
        values = ", ".join([*(f"%s::{_type(field, connection)}" for field in fields), now])
        return f"INSERT INTO {into} SELECT {values} FROM {LOCKED_KEY}", converted  # noqa: S608  as below
    values = ", ".join([*["%s"] * len(fields), now])
    return f"INSERT INTO {into} VALUES ({values})", converted  # noqa: S608  names of our own model


def _type(field: Field[Any, Any], connection: BaseDatabaseWrapper) -> str:
    """Return a column's type for a cast: a cast to `varchar(n)` would cut a text."""
    kind = str(field.db_type(connection))
    return "text" if kind.startswith("varchar") else kind


def _insert_delayed(facts: dict[str, Any], delay: timedelta, *, using: str) -> UUID:
    now = clock.now(using=using)
    try:
        due_at = now + delay
    except OverflowError as error:
        raise ValueError(
            f"emit(delay={delay}): {facts['name']} would be due after the year 9999. Give a "
            "shorter delay."
        ) from error
    model = apps.get_model("outbox", "DelayedEvent")
    with tracing.emitting(facts):
        row: DelayedEvent = model(due_at=due_at, stored_at=now, **facts)
        row.save(using=using, force_insert=True)
    return row.id


def _facts(
    event: DomainEvent,
    *,
    using: str,
    event_id: UUID | None = None,
    tenant: str | None = tenants.CAPTURED,
) -> tuple[dict[str, Any], str]:
    """Return an event's columns, and its payload as JSON text. Refuse what cannot be stored."""
    check_correlation(partial(_first_actor, using=using), using=using)
    cause = current_cause()
    facts = {
        "id": event_id or uuid7(),
        "name": event.stored_name(),
        "version": event.event_version,
        "key": event.key,
        "subject": event.subject_name() or None,
        "share": event.share_name() or None,
        "payload": event.model_dump(mode="json", by_alias=False),
        "correlation_id": cause.correlation_id,
        "causation_id": cause.causation_id,
        "emitted_by": cause.emitted_by,
        "actor": cause.actor,
    }
    if not facts["key"]:
        _refuse_no_key(event)
    if conf().TENANT:  # otherwise the INSERT has no such column
        facts["tenant"] = tenants.capture() if tenant == tenants.CAPTURED else tenant
        facts["share"] = facts["share"] or facts["tenant"]
    return facts, storable_payload(facts, lengths=_lengths())


def _refuse_no_key(event: DomainEvent) -> None:
    if getattr(event, event.event_key) is None:
        raise UnstorableValue(
            f"{event.stored_name()} cannot be stored: its key, {event.event_key}, is None. An "
            "event is about one aggregate. Emit it after the aggregate has an id."
        )


@cache
def _lengths() -> dict[str, int]:
    """Return the maximum lengths of the event's text columns."""
    fields = _event_model()._meta.get_fields()
    lengths = {field.name: getattr(field, "max_length", None) for field in fields}
    return {name: length for name, length in lengths.items() if length}


def _first_actor(correlation_id: UUID, *, using: str) -> str | None:
    rows = _event_model().objects.using(using).filter(correlation_id=correlation_id)
    return rows.order_by("seq").values_list("actor", flat=True).first()


def _event_model() -> type[Event]:
    return apps.get_model("outbox", "Event")


def _no_event(given: object) -> str:
    """Explain which object `emit()` needs instead, without values: they may be personal data."""
    if isinstance(given, type) and issubclass(given, DomainEvent):
        fields = ", ".join(f"{name}=..." for name in given.model_fields)
        return (
            f"emit({given.__name__}) got the class. Emit an instance: "
            f"emit({given.__name__}({fields}))."
        )
    fix = (
        "emit() needs an instance of an event's class. Declare it in your app's events.py, "
        'class ParcelSent(DomainEvent, key="parcel_id"), and call emit(ParcelSent(parcel_id=...)).'
    )
    if isinstance(given, Mapping):
        fix += " `**` turns a mapping into fields: emit(ParcelSent(**values))."
    return f"emit() got a {type(given).__name__}. {fix}"


def _why_not(using: str) -> str:
    if is_in_coroutine():
        return (
            "emit() is called in async code, whose thread has no transaction. In an async handler "
            "use `await aemit(event)` of outbox.emission. In an async view put the change and "
            "emit() into one function with transaction.atomic(), and call it by sync_to_async."
        )
    text = str(NotInTransaction.__doc__)
    on = databases.listed() or (using,)
    if beside := open_aliases():
        text += (
            f" One is open on {beside[0]!r}, but the outbox is on {' and '.join(map(repr, on))}."
        )
    return text


def _refuse_other_transactions(using: str) -> None:
    beside = [one for one in open_aliases() if one != using and is_open_in_view(connections[one])]
    if beside:
        raise EmittedBesideTransaction(
            f"{guards.user_line()}: emit() is called inside a transaction of {beside[0]!r}. The "
            f"event is stored in {using!r}. The two do not commit together, so one may exist "
            f"without the other. Store the change in {using!r}, or end that transaction first."
        )
