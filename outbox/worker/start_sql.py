"""The statements of a start that one UPDATE makes, without a lock beforehand."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connections

from outbox.deliveries.lease import EVENT
from outbox.deliveries.statements import SENT, Statement, numbers
from outbox.models import Delivery

#: A delivery in a message: its id and the token under which it was sent.
Pair = tuple[int, int]


def events_of(pairs: Sequence[Pair], *, using: str) -> Statement:
    """Return the statement that reads the events of a message: of all, since most start."""
    ids = numbers(pk for pk, _token in pairs)
    seqs = f"SELECT d.event_id FROM outbox_delivery d WHERE d.id IN ({ids})"  # noqa: S608  ours
    # PostgreSQL may plan IN (SELECT ...) as a scan of all events, but an array as probes.
    is_array = connections[using].vendor == "postgresql"
    given = f"= ANY(ARRAY({seqs}))" if is_array else f"IN ({seqs})"
    return Statement(f"SELECT {EVENT.text} FROM outbox_event e WHERE e.seq {given}")  # noqa: S608  ours


def held_of(pairs: Sequence[Pair], subscription: int | None) -> Statement:
    """Return the statement that reads which subscriptions of a message are held.

    They are paused, or have an open breaker. It runs after the UPDATE, which may have read them
    before it waited for a lock.
    """
    ids = numbers(pk for pk, _token in pairs)
    whose = f"(SELECT d.subscription_id FROM outbox_delivery d WHERE d.id IN ({ids}))"  # noqa: S608  ours
    if subscription is not None:
        whose = f"({subscription:d})"
    return Statement(
        "SELECT s.id FROM outbox_subscription s "  # noqa: S608  ours
        f"WHERE (s.paused_at IS NOT NULL OR s.breaker_opened_at IS NOT NULL) AND s.id IN {whose}"
    )


STARTED = """
UPDATE outbox_delivery
SET started_token = token, attempts = attempts + CASE WHEN started_token < token THEN 1 ELSE 0 END,
    started_at = %s, worker = %s, due_at = %s"""
_OWED_STATES = ", ".join(f"'{state}'" for state in Delivery.OWED)
UNORDERED = "order_key IS NULL"
#: In its turn: no other delivery of its ordered key is running or of an earlier event, and no
#: earlier event of its key waits for fan-out, of any name: then a start with locks decides. Scalar
#: subqueries with LIMIT are probes of an index under any plan; PostgreSQL may plan EXISTS as a scan
#: of the backlog. IS TRUE lets it read the handler's subscriptions once and not for each delivery.
#: The sum keeps it from the index of all events that wait.
IN_TURN = f"""(order_key IS NULL OR ((
    SELECT o.id FROM outbox_delivery o
    WHERE o.order_key = outbox_delivery.order_key AND o.id <> outbox_delivery.id
    AND o.state IN ({_OWED_STATES})
    AND (o.event_id < outbox_delivery.event_id OR (o.state = 'sent' AND o.started_token = o.token))
    AND (o.subscription_id IN (SELECT s.id FROM outbox_subscription s WHERE s.handler = %s)) IS TRUE
    LIMIT 1
) IS NULL AND (
    SELECT e.seq FROM outbox_event e
    WHERE e.fanned_out_at IS NULL AND e.key = outbox_delivery.order_key
    AND e.seq + 0 < outbox_delivery.event_id
    LIMIT 1
) IS NULL))"""  # noqa: S608  our own words
_UNHINDERED = f"""{SENT} AND {UNORDERED} AND (
    SELECT s.paused_at IS NULL AND s.breaker_opened_at IS NULL
    FROM outbox_subscription s WHERE s.id = subscription_id
)"""  # noqa: S608  ours
FREE = f"token = %s AND started_token < token AND {_UNHINDERED}"
_OURS = "started_token = token AND started_at = %s AND worker = %s"
FREE_OR_OURS = f"token = %s AND (started_token < token OR ({_OURS})) AND {_UNHINDERED}"
RETURNING = """
RETURNING subscription_id, (
    SELECT s.breaker_failures FROM outbox_subscription s WHERE s.id = subscription_id
), id, event_id, token, attempts, target, order_key"""
