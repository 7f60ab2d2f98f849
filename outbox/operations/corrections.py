"""Correct a dead delivery: store its event again with a payload that a person repaired."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _
from pydantic import ValidationError

from outbox import clock, databases, emission, events
from outbox.context import Cause, caused_by
from outbox.contracts.upcasting import as_event
from outbox.deliveries.locks import share_subscriptions
from outbox.events import DomainEvent
from outbox.models import Delivery, Event, Operation
from outbox.privacy.marks import MASK
from outbox.privacy.sensitive import masked
from outbox.receipt import PermanentFailure
from outbox.sources.reading_again import require_readable
from outbox.sources.unreadable import STORED_MESSAGES, StoredMessage, body_fields
from outbox.storable import UnstorableValue, refuse_unstorable
from outbox.transports.nudge import nudge_of

from .bulk import discard_locked
from .progress import recorded

logger = logging.getLogger("outbox.operations")

State = Delivery.State


class CannotCorrect(ValueError):
    """The delivery is not dead, or the payload does not fit its event."""


def correct(
    delivery_id: int, payload: Mapping[str, Any], *, by: str, reason: str, using: str | None = None
) -> Event:
    """Store an event with a corrected payload, and one delivery to the dead delivery's handler.

    The old event does not change. Its dead delivery is discarded in the same transaction. Other
    handlers get no delivery of the new event.

    Args:
        delivery_id: the id of a dead delivery.
        payload: all fields, as JSON values; a field that is still masked ("***") keeps its stored
            value.
        by: the person who corrects it.
        reason: the reason, for the log and the discarded delivery.
        using: the outbox's database alias.

    Returns:
        The new event; `corrects` holds the old one's id.

    Raises:
        CannotCorrect: the delivery is not dead, or its subscription has ended. Or no code declares
            the event, or the payload does not fit the event or has another key. Or it is a received
            message that still cannot be read.
    """
    using = using or databases.alias()
    with transaction.atomic(using=using):
        row = _locked(delivery_id, using=using)
        fact = _fact(row.event, payload)
        event = _store(fact, row, by=by, using=using)
        why = f"corrected by event {event.id}: {reason}"
        discard_locked(Delivery.objects.using(using).filter(pk=row.pk), by=by, reason=why)
        choice = {"ids": [row.pk]}
        with recorded(Operation.Action.CORRECT, choice, by=by, reason=reason, using=using) as done:
            done.touched = 1
        transaction.on_commit(nudge_of(using), using=using, robust=True)
    logger.info("%s corrected event %s by %s: %s", by, row.event.id, event.id, reason)
    return event


def correct_message(
    delivery_id: int,
    *,
    body: bytes | None = None,
    headers: Mapping[str, Any] | None = None,
    by: str,
    reason: str,
    using: str | None = None,
) -> Event:
    """Correct a received message that could not be read, as `correct` does.

    Args:
        delivery_id: the id of a dead delivery of a message that was stored as received.
        body: the whole corrected body; None: the stored one.
        headers: all headers; None: the stored ones.
        by: the person who corrects it.
        reason: the reason, for the log and the discarded delivery.
        using: the outbox's database alias.

    Raises:
        CannotCorrect: as `correct`, or it is the delivery of another event.
    """
    using = using or databases.alias()
    rows = Delivery.objects.using(using).filter(pk=delivery_id).select_related("event")
    row = rows.first()
    if row is not None and row.event.name not in STORED_MESSAGES:
        text = _("Delivery %(id)d is of %(event)s, which is no received message.")
        raise CannotCorrect(text % {"id": delivery_id, "event": row.event.name})
    changed = masked(row.event) if row is not None else {}
    if body is not None:
        changed |= body_fields(body)
    if headers is not None:
        changed["headers"] = dict(headers)
    return correct(delivery_id, changed, by=by, reason=reason, using=using)


def _locked(delivery_id: int, *, using: str) -> Delivery:
    share_subscriptions(using=using)
    rows = Delivery.objects.using(using).filter(pk=delivery_id, state=State.DEAD)
    if rows.select_for_update().first() is None:
        raise CannotCorrect(_("Delivery %d is not dead, so it cannot be corrected.") % delivery_id)
    # Read after the lock: a redaction that held the lock may have blanked the event.
    # Joined: a router may send a lazy read of `row.event` to a replica, which is behind.
    row = rows.select_related("event", "subscription").get()
    if not row.subscription.active:
        text = _("The subscription of %s has ended. Resume the handler first.")
        raise CannotCorrect(text % row.subscription.handler)
    return row


def _fact(event: Event, payload: Mapping[str, Any]) -> DomainEvent:
    known = events.find(event.name)
    if known is None:
        raise CannotCorrect(
            _("This code does not declare the event %s. Use a release that does.") % event.name
        )
    fact = _read(known, event, _with_stored(payload, masked(event), event.payload))
    if fact.key != event.key and fact.key != _present_key(known, event):
        raise CannotCorrect(_("The key must stay %s.") % event.key)
    if isinstance(fact, StoredMessage):
        try:
            require_readable(fact)
        except PermanentFailure as error:
            raise CannotCorrect(str(error)) from error
    return fact


def _present_key(known: type[DomainEvent], event: Event) -> str | None:
    """Return the key that this release gives to the stored payload; None if it cannot read it.

    An earlier release may have written the key of the same values in another way.
    """
    try:
        return as_event(known, event.payload).key
    except ValidationError:
        return None


def _read(known: type[DomainEvent], event: Event, payload: Mapping[str, Any]) -> DomainEvent:
    try:
        # First: half of a surrogate pair, for example, cannot even be written as JSON.
        refuse_unstorable({"name": event.name, "payload": payload})
        return as_event(known, payload)
    except UnstorableValue as error:
        raise CannotCorrect(str(error)) from None
    except ValidationError as error:
        raise CannotCorrect(_without_values(error)) from None  # str(error) quotes the values


def _without_values(error: ValidationError) -> str:
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems)


def _with_stored(given: Any, shown: Any, stored: Any) -> Any:
    """Restore the stored value of each masked field that the person left masked."""
    if given == MASK and shown == MASK:
        return stored
    if isinstance(given, dict) and isinstance(shown, dict) and isinstance(stored, dict):
        return {
            name: _with_stored(value, shown.get(name), stored.get(name))
            for name, value in given.items()
        }
    if isinstance(given, list) and isinstance(shown, list) and isinstance(stored, list):
        known = [*zip(shown, stored, strict=True)][: len(given)]
        padded = known + [(None, None)] * (len(given) - len(known))
        return [_with_stored(one, *two) for one, two in zip(given, padded, strict=True)]
    return given


def _store(fact: DomainEvent, row: Delivery, *, by: str, using: str) -> Event:
    """Store the event as fanned out, with one delivery to the same subscription."""
    old, now = row.event, clock.now(using=using)
    cause = Cause(
        correlation_id=old.correlation_id,
        causation_id=old.causation_id,
        emitted_by=old.emitted_by,
        actor=by,
    )
    try:
        with caused_by(cause):
            event_id = emission.store(fact, using=using, tenant=old.tenant)
    except UnstorableValue as error:
        raise CannotCorrect(str(error)) from None
    event = Event.objects.using(using).get(id=event_id)
    event.corrects, event.fanned_out_at = old.id, now
    event.save(using=using, update_fields=["corrects", "fanned_out_at"])
    Delivery.objects.using(using).create(
        event=event,
        subscription=row.subscription,
        target=row.target,
        due_at=now,
        note=f"corrected by {by}"[:300],
        order_key=event.key if row.subscription.ordered else None,
        share=_share_of(row, event) if row.subscription.share_window else None,
        priority=row.priority,
    )
    return event


def _share_of(row: Delivery, corrected: Event) -> str | None:
    """Return the share of a corrected delivery: a target keeps its own."""
    return (row.share if row.target else None) or corrected.share
