"""The handler of messages that were stored as received: read them again, and store their event."""

from __future__ import annotations

import logging
from base64 import b64decode

from django.db import transaction

from outbox import databases, emission, tenants
from outbox.ids import uuid7
from outbox.models import Event, Received
from outbox.receipt import PermanentFailure
from outbox.settlements.events import SETTLED_TYPE
from outbox.settlements.recording import record
from outbox.settlements.reporting import Expected, expect_reports
from outbox.subscriptions import find, subscribe
from outbox.transports.base import QUEUE
from outbox.transports.nudge import nudge

from .base import ExternalMessage, NotReadable, ReceivedMessage
from .configuration import SourceConfig, configured
from .events import ExternalEvent
from .reading import content_of, external_id, fact_of, report_of, reported_id
from .storing import claim
from .unreadable import HANDLER, STORED_MESSAGES, Encoding, StoredMessage

logger = logging.getLogger("outbox.sources")


def subscribe_reader() -> None:
    """Subscribe the handler. A project without sources has no such subscription."""
    if find(HANDLER) is None:
        subscribe(*STORED_MESSAGES, name=HANDLER, queue=QUEUE)(read_message)


def read_message(
    source: str,
    external_id: str,
    position: str,
    topic: str,
    partition_key: str,
    headers: dict[str, str],
    body: str,
    encoding: Encoding,
    size: int,
    unknown_type: str,
) -> None:
    """Read a stored message again, and store its external event.

    Raises `PermanentFailure` if it still cannot be read.
    """
    known = _source(source)
    message = ReceivedMessage(
        position=position,
        topic=topic,
        key=partition_key,
        headers=headers,
        body=_decoded(body, encoding, source=known),
    )
    try:
        found = _read(message, known, unknown_type=unknown_type)
    except NotReadable as error:
        raise PermanentFailure(_cannot_be_read(source, str(error))) from error
    if found is None:
        return
    content, fact = found
    if content.type == SETTLED_TYPE:
        record([report_of(content)], using=databases.alias())
    if fact is not None:
        _store_once(fact, content, known)


def require_readable(stored: StoredMessage) -> None:
    """Raise `PermanentFailure` if `read_message` would, with the position. Store nothing."""
    source = _source(stored.source)
    message = ReceivedMessage(
        position=stored.position,
        topic=stored.topic,
        key=stored.partition_key,
        headers=stored.headers,
        body=_decoded(stored.body, stored.encoding, source=source),
    )
    try:
        _read(message, source, unknown_type=stored.unknown_type)
    except NotReadable as error:
        raise PermanentFailure(_cannot_be_read(source.name, error.with_position)) from error


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


def _read(
    message: ReceivedMessage, source: SourceConfig, *, unknown_type: str
) -> tuple[ExternalMessage, ExternalEvent | None] | None:
    """Return a message's content, and its event if it has one; None: nothing is to be stored.

    Raises:
        NotReadable: as `content_of`, `fact_of` and `report_of`.
        PermanentFailure: no external event declares its type any more.
    """
    content = content_of(message, source)
    fact = fact_of(content, source) if content else None
    if content is not None and content.type == SETTLED_TYPE:
        report_of(content)
        return content, fact
    if content is None or (fact is None and content.type == unknown_type):
        return None  # the mapper drops it, or the type is still unknown
    if fact is None:
        raise PermanentFailure(
            f"No external event of the source {source.name} declares the type {content.type}."
        )
    return content, fact


def _store_once(fact: ExternalEvent, content: ExternalMessage, source: SourceConfig) -> None:
    using, event_id, own_id = databases.alias(), uuid7(), external_id(content.id)
    if not claim(source.name, {own_id: event_id}, using=using):
        rows = Received.objects.using(using).filter(source=source.name, external_id=own_id)
        [row] = rows.select_for_update()
        events = Event.objects.using(using).filter(id=row.event)
        if events.exclude(name__in=STORED_MESSAGES).exists():
            logger.warning("%s: %s was stored before. It is dropped.", source.name, own_id)
            return
        rows.update(event=event_id)
    # Without a tenant of its own it has that of the stored message, in which this handler runs.
    tenant = content.tenant or tenants.CAPTURED
    emission.store(fact, using=using, event_id=event_id, tenant=tenant)
    if source.settles_as and content.type != SETTLED_TYPE:
        one = Expected(
            external_id=own_id,
            reported_id=reported_id(content),
            event=event_id,
            replay=content.replay,
        )
        expect_reports([one], source=source.name, consumer=source.settles_as, using=using)
    transaction.on_commit(nudge, using=using, robust=True)
