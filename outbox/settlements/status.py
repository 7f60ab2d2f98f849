"""Ask whether other systems have settled an event, and wait for them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.apps import apps
from django.db import connections
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import clock, databases
from outbox.databases import is_open
from outbox.formatting import listing, span

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from outbox.models import Settlement

#: Seconds between two reads of a wait: the first, and the longest. It doubles.
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 0.5


class NotExpected(ValueError):
    """No sink expects this consumer to settle events. Add it to the sink's CONSUMERS."""


@dataclass(frozen=True, kw_only=True)
class SettlementStatus:
    """The settlement of an event by one consumer of one sink.

    Attributes:
        consumer: name of the consumer.
        sink: pinned name of the sink's handler, "sinks.orders".
        state: "open", "settled", "missing" (the sink's delivery is dead) or "withdrawn".
        due_at: the deadline of an open one.
        settled_at: time of the report, or None.
        replays: how often a missed deadline has requested another publication.
        text: the state in words: "billing: done after 1.2 s", since the emission.
    """

    consumer: str
    sink: str
    state: str
    due_at: datetime
    settled_at: datetime | None
    replays: int
    text: str


def settlements_of(event_id: UUID, *, using: str | None = None) -> list[SettlementStatus]:
    """Return the settlements of an event, by consumer and sink.

    Before a sink has published the event there are none.

    Args:
        event_id: the id that `emit` returned.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    rows = _rows(using).filter(event=event_id)
    return [one for some in _statuses(rows, using=using).values() for one in some]


def is_settled(event_id: UUID, *consumers: str, using: str | None = None) -> bool:
    """Return whether these consumers have settled an event. It is one read.

    Args:
        event_id: the id that `emit` returned.
        consumers: names of one or more consumers.
        using: the outbox's database alias.

    Raises:
        TypeError: no consumer is named.
    """
    if not consumers:
        raise TypeError("Name at least one consumer that settles the event.")
    rows = _rows(using or databases.alias()).filter(event=event_id, consumer__in=consumers)
    states: dict[str, set[str]] = {}
    for consumer, state in rows.values_list("consumer", "state"):
        states.setdefault(consumer, set()).add(state)
    return all("settled" in states.get(one, ()) for one in consumers)


def wait_until_settled(
    event_id: UUID, *consumers: str, seconds: float, using: str | None = None
) -> bool:
    """Wait until these consumers have settled an event.

    For code outside of handlers: a handler would hold its worker meanwhile. Let a handler subscribe
    to an event of the other system instead.

    Args:
        event_id: the id that `emit` returned.
        consumers: names of one or more consumers.
        seconds: the longest wait.
        using: the outbox's database alias.

    Returns:
        True if all have settled it. False if the time is over.

    Raises:
        NotExpected: no sink names one of these consumers.
        TypeError: no consumer is named.
        RuntimeError: a transaction is open. The event may not be committed yet.
    """
    using = using or databases.alias()
    if is_open(connections[using]):
        raise RuntimeError(
            "wait_until_settled() was called within a transaction. No sink publishes the event "
            "before the commit, so wait after it."
        )
    _refuse_unexpected(consumers, using=using)
    until, wait = time.monotonic() + seconds, _FIRST_WAIT
    while not is_settled(event_id, *consumers, using=using):
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(wait, left))
        wait = min(wait * 2, _LONGEST_WAIT)
    return True


def statuses_of_deliveries(
    deliveries: Collection[int], *, using: str
) -> Mapping[int, list[SettlementStatus]]:
    """Return the settlements of deliveries by delivery id; one query, none for no deliveries."""
    if not deliveries:
        return {}
    return _statuses(_rows(using).filter(delivery__in=deliveries), using=using)


def _rows(using: str) -> QuerySet[Settlement]:
    rows: QuerySet[Settlement] = apps.get_model("outbox", "Settlement").objects.using(using)
    return rows


def _refuse_unexpected(consumers: Iterable[str], *, using: str) -> None:
    model = apps.get_model("outbox", "Subscription")
    rows = model.objects.using(using).filter(active=True).exclude(consumers="")
    known = {name for row in rows for name in row.consumer_names}
    for one in consumers:
        if one not in known:
            names = ", ".join(sorted(known)) or "none"
            raise NotExpected(f"No sink expects the consumer {one!r}. The expected ones: {names}.")


def _statuses(rows: QuerySet[Settlement], *, using: str) -> dict[int, list[SettlementStatus]]:
    now, found = clock.now(using=using), dict[int, list[SettlementStatus]]()
    ordered = rows.order_by("consumer", "delivery").select_related(
        "delivery__event", "delivery__subscription"
    )
    for row in ordered:
        status = SettlementStatus(
            consumer=row.consumer,
            sink=row.delivery.subscription.handler,
            state=row.state,
            due_at=row.due_at,
            settled_at=row.settled_at,
            replays=row.replays,
            text=f"{row.consumer}: {in_words(row, now)}",
        )
        found.setdefault(row.delivery_id, []).append(status)
    return found


def in_words(row: Settlement, now: datetime) -> str:
    """Return the state of a settlement: "done after 1.2 s", "settlement due in 40 s"."""
    if row.state == "settled" and row.settled_at:
        return _("done after %s") % _seconds(row.settled_at - row.delivery.event.emitted_at)
    if row.state == "withdrawn":
        return _("settlement no longer expected")
    if row.state == "missing":
        return _replayed(_("settlement missing"), row.replays)
    if row.delivery.state != "done":
        text = _("settlement expected after the next publication")
    elif row.due_at > now:
        text = _("settlement due in %s") % span(row.due_at - now)
    else:
        text = _("settlement overdue for %s") % span(now - row.due_at)
    return _replayed(text, row.replays)


def _replayed(text: str, replays: int) -> str:
    if not replays:
        return text
    after = ngettext("after %d replay", "after %d replays", replays) % replays
    return listing([text, after])


def _seconds(length: timedelta) -> str:
    """Return "1.2 s" below a minute, and "2 min 5 s" above."""
    number = length.total_seconds()
    return _("%s s") % f"{max(0.0, number):.1f}" if number < 60 else span(length)
