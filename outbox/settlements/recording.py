"""Record reported settlements, in the transaction in which a source stores its messages.

Reports about events of other databases are recorded before it, each database in a transaction of
its own.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import Error, transaction
from django.db.models import QuerySet

from outbox import clock, databases
from outbox.deliveries.transient_errors import DatabaseAccess, WaitGivenUp
from outbox.models import Delivery, Event, Settlement

logger = logging.getLogger("outbox.settlements")

State = Settlement.State


class InvalidReport(ValueError):
    """The data of a report names no event and consumer."""


@dataclass(frozen=True)
class Report:
    """A consumer's report that it has settled an event.

    Attributes:
        event: id of the event.
        consumer: name of the consumer.
    """

    event: UUID
    consumer: str

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Report | None:
        """Return the report with this data. None: its event is none of this project's.

        The number of a replay, ".1", may follow the event's id.

        Raises:
            InvalidReport: a field is missing, or is no text.
        """
        event, consumer = data.get("event"), data.get("consumer")
        if not isinstance(event, str) or not isinstance(consumer, str):
            raise InvalidReport('It needs the fields "event" and "consumer", both texts')
        try:
            return cls(UUID(event.partition(".")[0]), consumer)
        except ValueError:
            return None


class ReportsNotRecorded(Exception):
    """A database cannot store reports about its events now. The messages are stored later."""


def record(
    reports: Sequence[Report | None],
    *,
    using: str,
    elsewhere: Collection[Report] = (),
    duplicates: Collection[Report] = (),
) -> Counter[str]:
    """Store that consumers have settled events, in the caller's transaction.

    A report may arrive before the receipt of its delivery is committed. A report of an unknown
    event, or of a consumer that no sink expects, changes nothing. A settled consumer stays settled.

    Args:
        reports: the reports; None for an event that is none of this project's.
        using: the outbox's database alias.
        elsewhere: those that `record_elsewhere` has recorded.
        duplicates: reports of messages that were received before. They are recorded, too: when the
            first one came, perhaps no sink expected it yet. They are not counted.

    Returns:
        The number of recorded reports as "settlements", and of the others as "ignored".
    """
    wanted = {one for one in reports if one is not None}
    # All together, since events and deliveries are locked in their order.
    here = wanted.union(duplicates).difference(elsewhere)
    known = _record(here, using=using).union(elsewhere)
    number = sum(one in known for one in reports)
    for one in wanted - known:
        logger.info("%s reports event %s, which no sink expects it to.", one.consumer, one.event)
    return Counter(settlements=number, ignored=len(reports) - number)


def record_elsewhere(reports: Collection[Report], *, using: str) -> set[Report]:
    """Store the settlements of events that are in another listed database than `using`.

    Call it before the transaction that stores the ids of the messages. If that one fails, the
    messages come again, and a report that is recorded changes nothing. All other databases are
    asked for an event that `using` does not have.

    Returns:
        The reports that were recorded.

    Raises:
        ReportsNotRecorded: a database fails.
    """
    others = [one for one in databases.aliases() if one != using]
    if not others or not reports:
        return set()
    mine = Event.objects.using(using).filter(id__in={one.event for one in reports})
    ids = set(mine.values_list("id", flat=True))
    left = {one for one in reports if one.event not in ids}
    recorded: set[Report] = set()
    for other in others:
        if left - recorded:
            recorded |= _record_in(other, left - recorded)
    return recorded


def _record_in(other: str, reports: Collection[Report]) -> set[Report]:
    # Messages wait in the other system, so this does not wait for the end of an outage.
    access = DatabaseAccess(other, sleep=lambda _seconds: True)
    try:
        with databases.serving(other):
            return access.run(lambda: _record_alone(reports, using=other))
    except (Error, WaitGivenUp) as error:
        # Also a missing table: the other system would not send an acknowledged report again.
        raise ReportsNotRecorded(
            f"The database {other} cannot store reports about its events now "
            f"({type(error).__name__}). They are stored later. Check that it runs and that its "
            "migrations have run."
        ) from error


def _record_alone(reports: Collection[Report], *, using: str) -> set[Report]:
    with transaction.atomic(using=using):
        return _record(reports, using=using)


def _record(reports: Collection[Report], *, using: str) -> set[Report]:
    """Record reports about events of one database; return those that a sink expects."""
    deliveries = _locked_deliveries({one.event for one in reports}, using=using)
    expected = [
        (row, one.consumer)
        for row in deliveries
        for one in reports
        if one.event == row.event.id and one.consumer in row.subscription.consumer_names
    ]
    _settle(expected, using=using)
    return {Report(row.event.id, consumer) for row, consumer in expected}


def _locked_deliveries(ids: Collection[UUID], *, using: str) -> list[Delivery]:
    """Lock the sinks' deliveries of events. Pruning locks the events before, so they stay."""
    if not ids:
        return []
    events = Event.objects.using(using).filter(id__in=ids).order_by("seq")
    seqs = list(events.select_for_update(no_key=True).values_list("seq", flat=True))
    rows = Delivery.objects.using(using).filter(event__in=seqs)
    rows = rows.exclude(subscription__consumers="").order_by("pk")
    return list(
        rows.select_related("event", "subscription").select_for_update(of=("self",), no_key=True)
    )


def _settle(expected: Sequence[tuple[Delivery, str]], *, using: str) -> None:
    now = clock.now(using=using)
    settlements = Settlement.objects.using(using)
    stored = settlements.filter(delivery__in={row.pk for row, _consumer in expected})
    known = {(one.delivery_id, one.consumer): one for one in stored}
    found = [known.get((row.pk, consumer)) for row, consumer in expected]
    late = [one for one in found if one is not None and one.state != State.SETTLED]
    settlements.filter(pk__in=[one.pk for one in late]).update(state=State.SETTLED, settled_at=now)
    settlements.bulk_create(
        Settlement(
            delivery=row,
            event=row.event.id,
            consumer=consumer,
            state=State.SETTLED,
            due_at=now,
            settled_at=now,
        )
        for (row, consumer), one in zip(expected, found, strict=True)
        if one is None
    )
    were_missing = {one.delivery_id for one in late if one.state == State.MISSING}
    _close_dead_letters(Delivery.objects.using(using).filter(pk__in=were_missing))


def _close_dead_letters(deliveries: QuerySet[Delivery]) -> None:
    """Make dead deliveries done that were published, and miss no settlement any more."""
    missing = Settlement.objects.using(deliveries.db).filter(state=State.MISSING)
    still = list(missing.filter(delivery__in=deliveries).values_list("delivery", flat=True))
    closed = deliveries.filter(state=Delivery.State.DEAD).exclude(pk__in=still)
    closed.update(state=Delivery.State.DONE, settled_at=clock.now(using=deliveries.db), note="")
