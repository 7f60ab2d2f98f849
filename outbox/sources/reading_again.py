"""The handler of messages that were stored as received: read them again, and store their event."""

from __future__ import annotations

import logging
from base64 import b64decode
from collections.abc import Collection
from contextlib import nullcontext
from typing import NamedTuple
from uuid import UUID

from django.db import transaction

from outbox import databases, emission, tenants
from outbox.context import correlated
from outbox.events import EventRecord
from outbox.ids import uuid7
from outbox.models import Event, Received
from outbox.receipt import PermanentFailure, Receipt
from outbox.settlements.events import SETTLED_TYPE
from outbox.settlements.recording import Report, record, record_elsewhere
from outbox.settlements.reporting import Expected, expect_reports
from outbox.subscriptions import find, subscribe
from outbox.transports.base import QUEUE
from outbox.transports.nudge import nudge_of

from .base import ExternalMessage, NotReadable, ReceivedMessage
from .configuration import SourceConfig, configured
from .events import ExternalEvent
from .reading import content_of, external_id, fact_of, report_of, reported_id
from .storing import claim, correlation_ids
from .unreadable import HANDLER, STORED_MESSAGES, Encoding, StoredMessage

logger = logging.getLogger("outbox.sources")


class _Found(NamedTuple):
    """The content of a stored message that can be read now, with its event or report."""

    source: SourceConfig
    content: ExternalMessage
    fact: ExternalEvent | None
    report: Report | None = None


def subscribe_reader() -> None:
    """Subscribe the handler. A project without sources has no such subscription."""
    if find(HANDLER) is not None:
        return
    # An atomic handler must not write to another database, which may have the event of a report.
    is_atomic = len(databases.listed()) < 2
    function = read_message if is_atomic else read_with_receipt
    subscribe(*STORED_MESSAGES, name=HANDLER, queue=QUEUE, atomic=is_atomic)(function)


def read_message(event: EventRecord) -> None:
    """Read a stored message again, and store its external event, or record its report.

    Raises:
        PermanentFailure: it still cannot be read.
    """
    _keep(_read_again(event), event)


def read_with_receipt(event: EventRecord, receipt: Receipt) -> None:
    """Read a stored message of one of several databases again, as `read_message`.

    Raises:
        PermanentFailure: it still cannot be read.
        ReportsNotRecorded: another database cannot store the report that it is.
    """
    found = _read_again(event)
    reports = {found.report} if found is not None and found.report is not None else set()
    elsewhere = record_elsewhere(reports, using=databases.alias())
    with receipt:
        _keep(found, event, elsewhere=elsewhere)


def require_readable(stored: StoredMessage) -> None:
    """Raise `PermanentFailure` if the handler would, with the position. Store nothing."""
    try:
        _read(stored)
    except NotReadable as error:
        raise PermanentFailure(_cannot_be_read(stored.source, error.with_position)) from error


def _read_again(event: EventRecord) -> _Found | None:
    # Without a validation: a later release may have stored more fields.
    stored = StoredMessage.model_construct(**event.payload)
    try:
        return _read(stored)
    except NotReadable as error:
        raise PermanentFailure(_cannot_be_read(stored.source, str(error))) from error


def _cannot_be_read(source: str, reason: str) -> str:
    return f"A message of {source} cannot be read: {reason}."


def _source(name: str) -> SourceConfig:
    known = configured().get(name)
    if known is None:
        raise PermanentFailure(
            f'OUTBOX["SOURCES"] no longer has the source {name}. Configure it and retry, or '
            "discard the delivery."
        )
    return known


def _decoded(body: str, encoding: Encoding, *, source: SourceConfig) -> bytes:
    if encoding == "text":
        return body.encode()
    if encoding == "omitted":
        raise PermanentFailure(
            f"The body was larger than MAX_BYTES of the source {source.name}, so it was not "
            "stored. Raise MAX_BYTES, and let the sender send the message again under another id. "
            "Or correct the body."
        )
    try:
        return b64decode(body, validate=True)
    except ValueError as error:
        raise PermanentFailure("The body is no valid Base64.") from error


def _read(stored: StoredMessage) -> _Found | None:
    """Return a message's content, and its event if it has one; None: nothing is to be stored.

    Raises:
        NotReadable: as `content_of`, `fact_of` and `report_of`.
        PermanentFailure: its source, its body or the external event of its type is missing.
    """
    source = _source(stored.source)
    message = ReceivedMessage(
        position=stored.position,
        topic=stored.topic,
        key=stored.partition_key,
        headers=stored.headers,
        body=_decoded(stored.body, stored.encoding, source=source),
    )
    content = content_of(message, source)
    fact = fact_of(content, source) if content else None
    if content is not None and content.type == SETTLED_TYPE:
        return _Found(source, content, fact, report_of(content))
    if content is None or (fact is None and content.type == stored.unknown_type):
        return None  # the mapper drops it, or the type is still unknown
    if fact is None:
        raise PermanentFailure(
            f"No external event of the source {source.name} declares the type {content.type}."
        )
    return _Found(source, content, fact)


def _keep(
    found: _Found | None, stored_as: EventRecord, *, elsewhere: Collection[Report] = ()
) -> None:
    """Record the report of a message, and store its event."""
    if found is None:
        return
    if found.content.type == SETTLED_TYPE:
        record([found.report], using=databases.alias(), elsewhere=elsewhere)
    if found.fact is not None:
        _store_once(found.fact, found.content, found.source, stored_as=stored_as.id)


def _store_once(
    fact: ExternalEvent, content: ExternalMessage, source: SourceConfig, *, stored_as: UUID
) -> None:
    using, event_id, own_id = databases.alias(), uuid7(), external_id(content.id)
    if not _claim(source.name, own_id, event_id, stored_as=stored_as, using=using):
        logger.warning("%s: %s was stored before. It is dropped.", source.name, own_id)
        return
    # Without a tenant of its own it has that of the stored message, in which this handler runs.
    tenant = content.tenant or tenants.CAPTURED
    known = correlation_ids([content], using=using)
    correlation_id = content.correlation_id or known.get(content.causation_id)
    with correlated(correlation_id) if correlation_id else nullcontext():
        emission.store(fact, using=using, event_id=event_id, tenant=tenant)
    if source.settles_as and content.type != SETTLED_TYPE:
        one = Expected(
            external_id=own_id,
            reported_id=reported_id(content),
            event=event_id,
            replay=content.replay,
        )
        expect_reports([one], source=source.name, consumer=source.settles_as, using=using)
    transaction.on_commit(nudge_of(using), using=using, robust=True)


def _claim(source: str, own_id: str, event_id: UUID, *, stored_as: UUID, using: str) -> bool:
    """Claim an external id for the event of a stored message. False: it has another event."""
    rows = Received.objects.using(using).filter(source=source, external_id=own_id)
    while not claim(source, {own_id: event_id}, using=using):
        row = rows.select_for_update().first()
        if row is None:  # deleted since the INSERT, for its age
            continue
        if not _is_free(row.event, stored_as, using=using):
            return False
        rows.update(event=event_id)
        return True
    return True


def _is_free(owner: UUID, stored_as: UUID, *, using: str) -> bool:
    """Return whether a received id still belongs to a stored message, so its event may take it.

    Args:
        owner: id of the event that the received id belongs to. It may be pruned.
        stored_as: id of the stored message, perhaps a correction, that is read.
        using: the database alias.
    """
    events = Event.objects.using(using)
    if events.filter(id=owner, name__in=STORED_MESSAGES).exists():
        return True
    one: UUID | None = stored_as
    while one is not None and one != owner:
        one = events.filter(id=one).values_list("corrects", flat=True).first()
    return one is not None
