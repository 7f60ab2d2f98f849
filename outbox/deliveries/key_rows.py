"""Read the rows that decide the order of ordered keys, for many keys in one round trip."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from django.db import connections

from outbox.events import selects
from outbox.models import Delivery

from .statements import Rows, Statement, read, read_each

#: An ordered handler's pinned name, and a key.
OrderedKey = tuple[str, str]


class KeyRows(NamedTuple):
    """The rows of some keys.

    Attributes:
        subscriptions: id, handler and selector of the ordered subscriptions.
        waiting: key, event name and first `seq` of the events that wait for fan-out.
        owed: subscription id, key and first `seq` of the owed deliveries.
        running: handler, key and id of the deliveries that have started.
    """

    subscriptions: Rows
    waiting: Rows
    owed: Rows
    running: Rows = []

    def firsts(self) -> dict[OrderedKey, int]:
        """Return the `seq` of the first outstanding event by ordered key, if it has one."""
        handlers = {pk: handler for pk, handler, _selector in self.subscriptions}
        found = [
            ((handler, key), seq)
            for key, event, seq in self.waiting
            for _pk, handler, selector in self.subscriptions
            if selects(selector, event)
        ]
        found += [((handlers[pk], key), seq) for pk, key, seq in self.owed if pk in handlers]
        firsts: dict[OrderedKey, int] = {}
        for ordered_key, seq in found:
            firsts[ordered_key] = min(seq, firsts.get(ordered_key, seq))
        return firsts

    def running_ids(self) -> dict[OrderedKey, int]:
        """Return the running delivery by ordered key; each has at most one."""
        return {(handler, key): pk for handler, key, pk in self.running}


def read_outstanding(keys: Collection[str], *, handler: str = "", using: str) -> KeyRows:
    """Read the outstanding events of keys.

    Args:
        keys: the keys to read.
        handler: only of this handler; "" means all ordered ones.
        using: the outbox's database alias.
    """
    return KeyRows(*read_each(*_outstanding(keys, handler, using=using), using=using))


def read_all(keys: Collection[str], *, handler: str = "", using: str) -> KeyRows:
    """Read the outstanding events and the running deliveries of keys."""
    given, values = _among("d.order_key", keys, using=using)
    running = Statement(f"{_RUNNING} AND {given}", values)
    return KeyRows(*read_each(*_outstanding(keys, handler, using=using), running, using=using))


def read_blocked(keys: Collection[str], *, handler: str, using: str) -> set[str]:
    """Return those keys of which a delivery of a handler is blocked."""
    given, values = _among("d.order_key", keys, using=using)
    text = f"{_BLOCKED} AND {given} GROUP BY d.order_key"
    return {key for (key,) in read(text, handler, *values, using=using)}


def first_waiting(keys: Collection[str], *, using: str) -> dict[str, int]:
    """Return the `seq` of the first event that waits for fan-out, by key.

    Call it within a transaction. On PostgreSQL each key is one probe of the index of waiting keys,
    without statistics as well: only that index has the order, and sorts are off.
    """
    if connections[using].vendor == "postgresql":
        text, values = _PROBES, (list(keys),)
    else:
        among, values = _among("e.key", keys, using=using)
        text = f"{_WAITING_KEYS} AND {among} GROUP BY e.key"
    (rows,) = read_each(Statement(text, values, is_page=True), using=using)
    return dict(rows)


def _outstanding(keys: Collection[str], handler: str, *, using: str) -> Sequence[Statement]:
    """Return statements that read events before deliveries.

    One commit moves an event from the first set to the second, so it may be read twice, but is
    never missed.
    """
    waiting, of_waiting = _among("e.key", keys, using=using)
    owed, of_owed = _among("d.order_key", keys, using=using)
    only, of_handler = (" AND s.handler = %s", (handler,)) if handler else ("", ())
    return (
        Statement(f"SELECT s.id, s.handler, s.event {_ORDERED}{only}", of_handler),
        Statement(f"{_WAITING} AND {waiting} GROUP BY e.key, e.name", of_waiting),
        Statement(
            f"{_OWED} AND {owed} AND d.subscription_id IN (SELECT s.id {_ORDERED}{only}) "
            "GROUP BY d.subscription_id, d.order_key",
            (*of_owed, *of_handler),
        ),
    )


def _among(column: str, texts: Collection[str], *, using: str) -> tuple[str, tuple[Any, ...]]:
    """Return the condition that a column has one of these texts, and its parameter.

    It is one parameter, since a driver takes microseconds for each.
    """
    if connections[using].vendor == "postgresql":
        return f"{column} = ANY(%s)", (list(texts),)
    subquery = "(SELECT value FROM json_each(%s))"
    return f"{column} IN {subquery}", (json.dumps(list(texts)),)


_STATES = ", ".join(f"'{state}'" for state in Delivery.OWED)
_ORDERED = "FROM outbox_subscription s WHERE s.active AND s.ordered"
_WAITING = """
SELECT e.key, e.name, min(e.seq) FROM outbox_event e WHERE e.fanned_out_at IS NULL"""
_WAITING_KEYS = "SELECT e.key, min(e.seq) FROM outbox_event e WHERE e.fanned_out_at IS NULL"
_PROBES = """
SELECT k.key, first.seq FROM unnest(%s::text[]) AS k (key) CROSS JOIN LATERAL (
    SELECT e.key, e.seq FROM outbox_event e WHERE e.fanned_out_at IS NULL AND e.key >= k.key
    ORDER BY e.key, e.seq LIMIT 1
) AS first WHERE first.key = k.key"""
_OWED = f"""
SELECT d.subscription_id, d.order_key, min(d.event_id) FROM outbox_delivery d
WHERE d.order_key IS NOT NULL AND d.state IN ({_STATES})"""  # noqa: S608  our own words
_RUNNING = """
SELECT s.handler, d.order_key, d.id
FROM outbox_delivery d JOIN outbox_subscription s ON s.id = d.subscription_id
WHERE d.order_key IS NOT NULL AND d.state = 'sent' AND d.started_token = d.token"""
#: The state is written so that the index of blocked deliveries does not match: a few keys are read,
#: and a handler may have a million blocked deliveries.
_BLOCKED = """
SELECT d.order_key FROM outbox_delivery d WHERE d.order_key IS NOT NULL
AND d.state || '' = 'blocked'
AND d.subscription_id IN (SELECT s.id FROM outbox_subscription s WHERE s.handler = %s)"""
