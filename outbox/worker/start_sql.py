"""The SQL of a start that one UPDATE makes, without a lock beforehand."""

from __future__ import annotations

from outbox.deliveries.statements import SENT
from outbox.models import Delivery

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
#: Not started since the message with this token was sent. The relay may have sent another message
#: since. In a slow queue each one is older than a lease, and one has to start the delivery.
_NOT_SINCE = "%s BETWEEN started_token + 1 AND token"
FREE = f"{_NOT_SINCE} AND {_UNHINDERED}"
_OURS = "started_token = token AND started_at = %s AND worker = %s"
FREE_OR_OURS = f"({_NOT_SINCE} OR ({_OURS})) AND {_UNHINDERED}"
RETURNING = """
RETURNING subscription_id, (
    SELECT s.breaker_failures FROM outbox_subscription s WHERE s.id = subscription_id
), id, event_id, token, attempts, target, order_key"""
