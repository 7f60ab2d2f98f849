"""Store received messages as events: one transaction for a batch, once for each external id."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from django.db import connections, transaction

from outbox import clock, databases, emission, tenants, tracing
from outbox.context import caused_by
from outbox.deliveries import failpoints
from outbox.deliveries.key_locks import lock_keys
from outbox.deliveries.transient_errors import is_transient, retry_transient
from outbox.models import Event, Received
from outbox.settlements.recording import Report, ReportsNotRecorded, record, record_elsewhere
from outbox.settlements.reporting import Expected, expect_reports, report_again
from outbox.storable import UnstorableValue
from outbox.subscriptions import is_ordered_event
from outbox.transports.nudge import nudge_of

from .base import ExternalMessage, ReceivedMessage
from .configuration import SourceConfig
from .reading import Reading, read, unreadable
from .state import count

if TYPE_CHECKING:
    from django.db.models import Field

logger = logging.getLogger("outbox.sources")

#: Runs a function, and repeats it after transient errors of the database.
Retry = Callable[[Callable[[], "Counter[str]"]], "Counter[str]"]


def store(
    source: SourceConfig,
    messages: Sequence[ReceivedMessage],
    *,
    retry: Retry | None = None,
    using: str | None = None,
) -> Counter[str]:
    """Store messages as events in one transaction, and commit it. Drop duplicates.

    A message that cannot be read, or that the database refuses, is stored as it was received.

    Args:
        source: the source that received them.
        messages: messages in the order in which their events are stored.
        retry: repeats a transaction after transient errors. Default: `retry_transient`.
        using: the outbox's database alias.

    Returns:
        Numbers of messages by outcome: stored, unreadable, unknown, duplicates, dropped, and
        settlements and ignored ones, which are reports of consumers.

    Raises:
        django.db.Error: nothing of the batch, or of its rest, is stored.
        ReportsNotRecorded: likewise. Another database of the outbox fails.
    """
    using = using or databases.alias()
    retry = retry or (lambda action: retry_transient(action, using=using))
    readings = [read(message, source) for message in messages]
    found = [one for one in readings if one is not None]
    counts = Counter(dropped=len(readings) - len(found))
    counts += _store_safely(source, found, retry=retry, using=using)
    count(source.name, counts)
    if known := counts["duplicates"]:
        text = "%s: %d of %d messages were received before. They are dropped."
        more = {"source": source.name, "duplicates": known}
        logger.info(text, source.name, known, len(messages), extra=more)
    return counts


def _store_safely(
    source: SourceConfig, readings: Sequence[Reading], *, retry: Retry, using: str
) -> Counter[str]:
    """Store a batch. If the database refuses it, store each alone, and that one as received."""
    if not readings:
        return Counter()
    try:
        return retry(lambda: _store_together(source, readings, using=using))
    except Exception as error:
        if isinstance(error, ReportsNotRecorded) or is_transient(error, using=using):
            raise
        if tenants.is_of_capture(error):  # no message is the cause
            raise
        [first, *others] = readings
        if not others and first.outcome == "unreadable":
            raise
        logger.warning(
            "%s: %d messages could not be stored together (%s). Each is stored alone.",
            source.name,
            len(readings),
            type(error).__name__,
        )
    if others:
        alone = (_store_safely(source, [one], retry=retry, using=using) for one in readings)
        return sum(alone, Counter())
    refused = unreadable(first.message, source, first.content)
    return _store_safely(source, [refused], retry=retry, using=using)


def _store_together(
    source: SourceConfig, readings: Sequence[Reading], *, using: str
) -> Counter[str]:
    first: dict[str, Reading] = {}
    for one in readings:
        first.setdefault(one.external_id, one)
    elsewhere = record_elsewhere({one.report for one in readings if one.report}, using=using)
    with transaction.atomic(using=using):
        ids = {external_id: one.event_id for external_id, one in first.items()}
        new = claim(source.name, ids, using=using)
        mine = [one for external_id, one in first.items() if external_id in new]
        facts = [one.event for one in mine if one.event is not None]
        keys = {fact.key for fact in facts if is_ordered_event(fact.event_name)}
        lock_keys(keys, connection=connections[using])
        known = correlation_ids((one.content for one in mine), using=using)
        counts = Counter(
            _store_one(source, one, known, tenant=one.tenant or tenants.capture(), using=using)
            for one in mine
            if one.event is not None
        )
        counts["duplicates"] = len(readings) - len(mine)
        repeated = [one for one in readings if one.external_id not in new]
        reported = {one.report for one in repeated if one.report is not None}
        counts += _keep_settlements(source, mine, elsewhere, duplicates=reported, using=using)
        if source.settles_as:
            own, name = source.settles_as, source.name
            report_again(_expected(repeated), source=name, consumer=own, using=using)
        new_ones = {one.event_id for one in mine}
        duplicates = [one for one in readings if one.event_id not in new_ones]
        transaction.on_commit(partial(_log_each, source, duplicates), using=using)
        failpoints.reach(failpoints.BEFORE_STORE)
        transaction.on_commit(nudge_of(using), using=using, robust=True)
    return counts


def _keep_settlements(
    source: SourceConfig,
    readings: Sequence[Reading],
    elsewhere: Collection[Report],
    *,
    duplicates: Collection[Report],
    using: str,
) -> Counter[str]:
    """Record the settlements that were received, and expect reports of the other messages.

    Return the numbers of new messages for which no event is stored, by outcome.
    """
    if source.settles_as:
        own, name = source.settles_as, source.name
        expect_reports(_expected(readings), source=name, consumer=own, using=using)
    received = [one.report for one in readings if one.outcome == "settlement"]
    counts = Counter[str]()
    if received or duplicates:
        counts = record(received, using=using, elsewhere=elsewhere, duplicates=duplicates)
    counts["dropped"] = sum(one.outcome == "dropped" for one in readings)
    return counts


def _expected(readings: Iterable[Reading]) -> list[Expected]:
    return [
        Expected(
            external_id=one.external_id,
            reported_id=one.reported_id,
            event=one.event_id if one.event is not None else None,
            replay=one.replay,
        )
        for one in readings
        if one.reported_id
    ]


def _log_each(source: SourceConfig, duplicates: Sequence[Reading]) -> None:
    for one in duplicates:
        position, own_id = one.message.position, one.external_id
        logger.debug("%s: %s at %s was received before.", source.name, own_id, position)


def correlation_ids(
    contents: Iterable[ExternalMessage | None], *, using: str
) -> dict[UUID | None, UUID]:
    """Return the correlation ids of causes in this database, by event id.

    A message without a correlation id belongs to the flow of its cause.
    """
    open_ones = (one for one in contents if one is not None and one.correlation_id is None)
    causes = {one.causation_id for one in open_ones if one.causation_id is not None}
    if not causes:
        return {}
    events = Event.objects.using(using).filter(id__in=causes)
    return dict(events.values_list("id", "correlation_id"))


def _store_one(
    source: SourceConfig,
    reading: Reading,
    known: Mapping[UUID | None, UUID],
    *,
    tenant: str | None,
    using: str,
) -> str:
    """Store the event of a message; return its outcome as it is counted."""
    assert reading.event is not None
    content = reading.content
    parent, state = (content.traceparent, content.tracestate) if content else ("", "")
    with caused_by(reading.cause(source.name, known)), tracing.received(parent, state):
        try:
            emission.store(reading.event, using=using, event_id=reading.event_id, tenant=tenant)
            return "stored" if reading.outcome == "settlement" else reading.outcome
        except UnstorableValue as error:  # it is raised before the database is asked
            if reading.outcome == "unreadable":
                raise
            logger.warning("%s: %s It becomes a dead letter.", source.name, error)
    refused = unreadable(reading.message, source, content)
    refused = replace(refused, event_id=reading.event_id)
    return _store_one(source, refused, known, tenant=tenant, using=using)


def claim(source: str, ids: dict[str, UUID], *, using: str) -> set[str]:
    """Store external ids with their events' ids; return those that were not known yet.

    An id that another transaction is storing is waited for.
    """
    connection = connections[using]
    meta, quote = Received._meta, connection.ops.quote_name
    names = ("source", "external_id", "event", "received_at")
    fields = [cast("Field[Any, Any]", meta.get_field(name)) for name in names]
    now = clock.now(using=using)
    # Sorted, so that two processes with the same messages cannot deadlock.
    values = [
        field.get_db_prep_save(value, connection)
        for external_id, event_id in sorted(ids.items())
        for field, value in zip(fields, (source, external_id, event_id, now), strict=True)
    ]
    columns = ", ".join(quote(str(field.column)) for field in fields)
    rows = ", ".join(["(%s, %s, %s, %s)"] * len(ids))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {quote(meta.db_table)} ({columns}) VALUES {rows} "  # noqa: S608  names of our own model
            f"ON CONFLICT DO NOTHING RETURNING {quote('external_id')}",
            values,
        )
        return {external_id for (external_id,) in cursor.fetchall()}
