"""emit(): one INSERT in the caller's transaction, or NotInTransaction."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.apps import apps
from django.db import connections, router, transaction
from django.utils import timezone
from uuid_utils.compat import uuid7

from . import nudge
from .context import current_cause
from .events import DomainEvent

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from .models import Event


class NotInTransaction(RuntimeError):
    """emit() needs an open transaction: put the change and emit() into one transaction.atomic()."""


def emit(event: DomainEvent) -> UUID:
    """Store an event in the caller's transaction: it exists if and only if the change commits.

    Correlation id, causation id and actor are taken from the running handler or request.
    After the commit the relay is nudged from a thread of its own; the caller never waits for it.

    Args:
        event: an instance of a `DomainEvent` subclass that has a `key`.

    Returns:
        The event's id (UUIDv7).

    Raises:
        NotInTransaction: no `transaction.atomic()` is open on the outbox's database. The
            transaction that Django's TestCase opens around a test does not count.
        TypeError: the event's class is abstract (it has no `key`).
    """
    if not event.event_name:
        raise TypeError(
            f"{type(event).__name__} has no key and cannot be emitted: "
            f'class {type(event).__name__}(DomainEvent, key="...").'
        )
    using = router.db_for_write(_event_model())
    if not _in_own_transaction(connections[using]):
        raise NotInTransaction(NotInTransaction.__doc__)
    row = store(event, using=using)
    transaction.on_commit(nudge.poke, using=using, robust=True)
    return row.id


def store(event: DomainEvent, *, using: str) -> Event:
    """Insert the event's row; for emit() and the test kit, which differ in what they demand."""
    cause = current_cause()
    row = _event_model()(
        id=uuid7(),
        name=event.event_name,
        version=event.event_version,
        key=event.key,
        payload=event.model_dump(mode="json", by_alias=False),
        emitted_at=timezone.now(),
        correlation_id=cause.correlation_id,
        causation_id=cause.causation_id,
        emitted_by=cause.emitted_by,
        actor=cause.actor,
    )
    row.save(using=using, force_insert=True)
    return row


def _event_model() -> type[Event]:
    return apps.get_model("outbox", "Event")


def _in_own_transaction(connection: BaseDatabaseWrapper) -> bool:
    # TestCase marks its own blocks, as Django's check of durable=True needs to know them too.
    blocks = connection.atomic_blocks
    return any(not getattr(block, "_from_testcase", False) for block in blocks)
