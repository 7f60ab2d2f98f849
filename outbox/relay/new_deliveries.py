"""New deliveries: created for events and their subscriptions, and stored by few statements.

The number of statements does not depend on the number of events in a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from outbox.deliveries import ordering
from outbox.deliveries.statements import Statement, instant
from outbox.models import Delivery, Subscription

from .backlog import Waiting

State = Delivery.State
Subscribers = Mapping[str, Sequence[Subscription]]

#: Deliveries that one INSERT stores. SQLite allows as many SELECTs in one UNION ALL.
_STORED_AT_ONCE = 500


class NewDelivery(NamedTuple):
    """A delivery that is about to be stored."""

    seq: int
    subscription: int
    state: str
    due_at: datetime
    token: int = 0
    note: str = ""
    order_key: str | None = None
    share: str | None = None
    #: Worker that has already started it, or "".
    worker: str = ""

    @property
    def shared(self) -> tuple[object, ...]:
        """Columns that most other deliveries of the same page share with it."""
        given = (self.order_key is not None, self.share is not None)
        return self.subscription, self.state, self.due_at, self.token, self.note, given, self.worker


def new_deliveries(
    events: Sequence[Waiting], subscribers: Subscribers, *, now: datetime, using: str
) -> dict[int, list[NewDelivery]]:
    """Return the new deliveries of events by subscription id, in order of the events."""
    firsts = _first_of_keys(events, subscribers, using=using)
    new: dict[int, list[NewDelivery]] = {}
    for event in events:
        seq, key = event.seq, event.key
        for row in subscribers.get(event.name, ()):
            is_behind = row.ordered and ordering.is_behind(
                seq, firsts, ordered_key=(row.handler, key)
            )
            delivery = _new(event, row, now=now, is_behind=is_behind)
            new.setdefault(row.pk, []).append(delivery)
    return new


def store(new: Sequence[NewDelivery], *, now: datetime, using: str) -> Iterator[Statement]:
    """Yield statements that store deliveries and return their subscription, id and state.

    Most deliveries of a page differ only in their events. So the columns they share are written
    once: PostgreSQL takes as long to parse a row of eleven literals as to store it.
    """
    for start in range(0, len(new), _STORED_AT_ONCE):
        alike: dict[object, list[NewDelivery]] = {}
        for one in new[start : start + _STORED_AT_ONCE]:
            alike.setdefault(one.shared, []).append(one)
        selects = [_select(some, now=now, using=using) for some in alike.values()]
        text = " UNION ALL ".join(one.text for one in selects)
        values = tuple(value for one in selects for value in one.values)
        yield Statement(f"{_INSERT} {text} {_RETURNING}", values)


def _select(alike: Sequence[NewDelivery], *, now: datetime, using: str) -> Statement:
    """Return rows for the INSERT: own values as literals, values of users as parameters."""
    one = alike[0]
    # Columns that differ between them, apart from the event.
    given = [name for name in ("order_key", "share") if getattr(one, name) is not None]
    place = {name: f"column{number}" for number, name in enumerate(given, start=2)}
    columns = (
        "column1",
        f"{one.subscription:d}",
        f"'{one.state}'",
        instant(one.due_at, using=using),
        f"{one.token:d}",
        "%s",
        place.get("order_key", "NULL"),
        place.get("share", "NULL"),
        "1, 1" if one.worker else "0, 0",
        "%s",
        instant(now if one.worker else None, using=using),
    )
    row = f"({{:d}}{', %s' * len(given)})"
    rows = ", ".join(row.format(delivery.seq) for delivery in alike)
    values = [getattr(delivery, name) for delivery in alike for name in given]
    text = f"SELECT {', '.join(columns)} FROM (VALUES {rows}) new_rows"  # noqa: S608  ours
    return Statement(text, (one.note, one.worker, *values))


def _new(event: Waiting, row: Subscription, *, now: datetime, is_behind: bool) -> NewDelivery:
    """Create an event's delivery: blocked if `is_behind` an owed one of its key."""
    order_key = event.key if row.ordered else None
    share = event.share if row.share_window else None
    made = NewDelivery(event.seq, row.pk, State.PENDING, now, order_key=order_key, share=share)
    if is_behind:
        due_at, note = ordering.first_check(now), ordering.NOTE
        return made._replace(state=State.BLOCKED, due_at=due_at, note=note)
    return made


def _first_of_keys(
    events: Sequence[Waiting], subscribers: Subscribers, *, using: str
) -> dict[ordering.OrderedKey, int]:
    """Return the first owed event of each ordered key, these events included."""
    keys = {one.key for one in events if any(row.ordered for row in subscribers.get(one.name, ()))}
    return ordering.first_of(keys, using=using) if keys else {}


_INSERT = """
INSERT INTO outbox_delivery (
    event_id, subscription_id, state, due_at, token, note, order_key, share,
    started_token, attempts, worker, started_at
)"""
_RETURNING = "RETURNING subscription_id, id, state, share"
