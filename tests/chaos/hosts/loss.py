"""What PostgreSQL lost in a failover to an asynchronous standby, and the check of all the rest.

The rows of the lost primary, minus those of its standby at the promotion, name the orders that the
loss concerns. About these the answers, the bank and the mail server may differ from the database.
Nothing else is excused: everything in the database is settled, agrees, and is there once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import psycopg

from tests.chaos import checker
from tests.chaos.checker import DUPLICATED, LOST, Finding
from tests.chaos.customers import address_of
from tests.chaos.facts import Facts
from tests.chaos.history import Call

#: Each has the order that a row is about, its e-mail address if the row has one, and its content.
STATEMENTS = (
    "SELECT id, email, concat_ws(' ', status, tracking_number) FROM orders_order",
    "SELECT order_id, '', to_status FROM orders_orderhistory",
    "SELECT order_id, '', id::text FROM orders_refundrequest",
    "SELECT order_id, '', status FROM inventory_reservation",
    "SELECT order_id, '', concat_ws(' ', status, refund_amount) FROM payments_payment",
    "SELECT order_id, recipient, concat_ws(' ', message_id, sent_at) FROM notifications_email",
    "SELECT key, '', id::text FROM outbox_event",
    # Not each change of a delivery: a lost dispatch excuses nothing.
    "SELECT e.key, '', concat_ws(' ', s.handler, e.id) FROM outbox_delivery d"
    " JOIN outbox_event e ON e.seq = d.event_id"
    " JOIN outbox_subscription s ON s.id = d.subscription_id WHERE d.state = 'done'",
)

Row = tuple[str, str, str]


@dataclass(frozen=True)
class Rows:
    """Rows as (order, address, table and content), each with its number."""

    counted: Counter[Row] = field(default_factory=Counter)

    def __sub__(self, other: Rows) -> Rows:
        return Rows(self.counted - other.counted)

    @property
    def orders(self) -> set[str]:
        return {order for order, _address, _content in self.counted}

    @property
    def addresses(self) -> set[str]:
        return {address for _order, address, _content in self.counted if address}


def read_rows(connection: psycopg.Connection) -> Rows:
    """Read all rows at one moment."""
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    counted: Counter[Row] = Counter()
    for number, statement in enumerate(STATEMENTS):
        for order, address, content in connection.execute(statement.encode()):
            counted[_hex(order), address, f"{number} {content}"] += 1
    return Rows(counted)


def orders_of(losses: Iterable[Rows]) -> set[str]:
    """Return the ids of the orders and things that the losses concern, in hexadecimal digits."""
    return set[str]().union(*(loss.orders for loss in losses))


def check(calls: Sequence[Call], facts: Facts, losses: Iterable[Rows]) -> list[Finding]:
    """Return the violations that no loss explains."""
    losses = list(losses)
    orders = orders_of(losses)
    addresses = set[str]().union(*(loss.addresses for loss in losses))
    addresses |= {facts.orders[one][0] for one in orders & facts.orders.keys()}
    orders |= {id for id, (address, *_rest) in facts.orders.items() if address in addresses}
    kept = _without(facts, orders, addresses)
    answered = [call for call in calls if not _is_about(call, orders, addresses)]
    found: list[Finding] = []
    for rule in checker.RULES:
        found += rule(answered, kept)
    for look in checker.LOOKS:
        found += look(kept if look in checker.OUTSIDE else facts)
    return found


def unseen(calls: Sequence[Call], facts: Facts, losses: Sequence[Rows]) -> list[str]:
    """Plant losses and a duplicate into a correct run; return those that the check does not find.

    The lost order is one that was acknowledged and that no failover concerned.
    """
    excused = orders_of(losses)
    answered = {_hex(call.order_id) for call in calls if call.what == "place" and call.is_granted}
    known = sorted((answered & facts.orders.keys()) - excused)
    if not known:
        return ["No acknowledged order is left to plant an error into."]
    orders = {id: one for id, one in facts.orders.items() if id != known[0]}
    planted = {
        "a lost order": (LOST, replace(facts, orders=orders)),
        "a lost effect": (LOST, replace(facts, effects=facts.effects[1:])),
        "a duplicated move": (
            DUPLICATED,
            replace(facts, moves=[*facts.moves, *facts.moves[-1:]]),
        ),
    }
    return [
        f"The checker does not find a planted error: {error}."
        for error, (kind, changed) in planted.items()
        if kind not in {finding.kind for finding in check(calls, changed, losses)}
    ]


def _is_about(call: Call, orders: set[str], addresses: set[str]) -> bool:
    return _hex(call.order_id) in orders or address_of(call.name) in addresses


def _without(facts: Facts, orders: set[str], addresses: set[str]) -> Facts:
    """Return the facts about all other orders."""
    return replace(
        facts,
        orders={id: one for id, one in facts.orders.items() if id not in orders},
        moves=[(id, to) for id, to in facts.moves if id not in orders],
        events={(name, id): n for (name, id), n in facts.events.items() if id not in orders},
        refunds={id: one for id, one in facts.refunds.items() if one[0] not in orders},
        charges={id: one for id, one in facts.charges.items() if id not in orders},
        emails={id: one for id, one in facts.emails.items() if one[0] not in addresses},
        taken=[(id, to) for id, to in facts.taken if to not in addresses],
    )


def _hex(value: object) -> str:
    return str(value).replace("-", "")
