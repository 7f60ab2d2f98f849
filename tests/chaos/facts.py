"""The state after a run, read from the database, the bank's ledger and the mail server."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from outbox import subscribe
from tests.bank import BankProcess
from tests.chaos import mailbox
from tests.chaos.stack import Stack

Row = tuple[Any, ...]


class World(Protocol):
    """A shop, on one host or on several."""

    @property
    def stack(self) -> Stack: ...
    @property
    def bank(self) -> BankProcess: ...
    @property
    def mail_folder(self) -> Path: ...


@dataclass(kw_only=True)
class Facts:
    """Rows as they were read; ids of orders, events and things are texts of 32 hexadecimal digits.

    Attributes:
        orders: by id: e-mail address, status, total, tracking number.
        moves: (order id, status) of each line of the orders' history.
        events: by (name, key): how many there are.
        refunds: by id: (order id, amount) of what staff asked for.
        reservations: by order id: its status.
        shelf: by SKU: (on hand, reserved), as the counters say.
        ledger: by SKU: the same, as the movements sum up to.
        received: by SKU: units that were put on the shelf.
        lines: by order id: units by SKU.
        charges: by order id: the amounts of each authorization, capture, void and refund.
        payments: by order id: (status, amount).
        emails: by Message-ID: (recipient, whether it is noted as sent).
        taken: the mail server's (Message-ID, recipient), raw repeats among them.
        changes: number of changes by thing.
        effects: (handler, thing, number), in the order of their commits within one thing.
        unsettled: a line for each debt that is left.
        dead_poison, poison: deliveries of poison that are dead, and all.
        bank_requests, bank_keys: how many came, under how many keys.
        is_ordered: whether the outbox keeps order per key.
    """

    orders: dict[str, tuple[str, str, int, str]] = field(default_factory=dict)
    moves: list[tuple[str, str]] = field(default_factory=list)
    events: dict[tuple[str, str], int] = field(default_factory=dict)
    refunds: dict[str, tuple[str, int]] = field(default_factory=dict)
    reservations: dict[str, str] = field(default_factory=dict)
    shelf: dict[str, tuple[int, int]] = field(default_factory=dict)
    ledger: dict[str, tuple[int, int]] = field(default_factory=dict)
    lines: dict[str, dict[str, int]] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    charges: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    payments: dict[str, tuple[str, int]] = field(default_factory=dict)
    emails: dict[str, tuple[str, bool]] = field(default_factory=dict)
    taken: list[tuple[str, str]] = field(default_factory=list)
    changes: dict[str, int] = field(default_factory=dict)
    effects: list[tuple[str, str, int]] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    poison: int = 0
    dead_poison: int = 0
    bank_requests: int = 0
    bank_keys: int = 0
    is_ordered: bool = False


UNSETTLED = """
SELECT s.handler, e.name, e.key, d.state, d.attempts, d.note FROM outbox_delivery d
JOIN outbox_subscription s ON s.id = d.subscription_id JOIN outbox_event e ON e.seq = d.event_id
WHERE d.state NOT IN ('done', 'discarded') AND s.handler <> 'proving.swallow'
"""
POISON = """
SELECT d.state FROM outbox_delivery d JOIN outbox_subscription s ON s.id = d.subscription_id
WHERE s.handler = 'proving.swallow'
"""
CHARGES = {
    "authorizations": "SELECT reference, amount FROM authorizations WHERE status <> 'declined'",
    "captures": "SELECT reference, c.amount FROM captures c"
    " JOIN authorizations a ON a.id = authorization_id",
    "voids": "SELECT reference, amount FROM voids v JOIN authorizations a ON a.id ="
    " authorization_id",
    "refunds": "SELECT reference, r.amount FROM refunds r JOIN captures c ON c.id = capture_id"
    " JOIN authorizations a ON a.id = authorization_id",
}


def read_facts(shop: World) -> Facts:
    query = shop.stack.query
    requests = re.findall(r"POST \S+ \d+ .*key='([^']+)'", shop.bank.log)
    poison = query(POISON)
    return Facts(
        orders=_orders(
            query("SELECT id, email, status, total_amount, tracking_number FROM orders_order")
        ),
        moves=[
            (_hex(id), to)
            for id, to in query("SELECT order_id, to_status FROM orders_orderhistory")
        ],
        events={
            (name, _hex(key)): count
            for name, key, count in query(
                "SELECT name, key, count(*) FROM outbox_event GROUP BY 1, 2"
            )
        },
        refunds={
            _hex(id): (_hex(order), amount)
            for id, order, amount in query("SELECT id, order_id, amount FROM orders_refundrequest")
        },
        reservations={
            _hex(id): status
            for id, status in query("SELECT order_id, status FROM inventory_reservation")
        },
        shelf=_by_sku(query("SELECT sku, on_hand, reserved FROM inventory_stock")),
        ledger=_by_sku(
            query(
                "SELECT sku, sum(on_hand), sum(reserved) FROM inventory_stockmovement GROUP BY sku"
            )
        ),
        received={
            sku: int(units)
            for sku, units in query(
                "SELECT sku, sum(on_hand) FROM inventory_stockmovement WHERE kind = 'received'"
                " GROUP BY sku"
            )
        },
        lines=_lines(query("SELECT order_id, sku, quantity FROM orders_orderline")),
        charges=_charges(shop),
        payments={
            _hex(id): (status, amount or 0)
            for id, status, amount in query("SELECT order_id, status, amount FROM payments_payment")
        },
        emails={
            message_id: (to, sent is not None)
            for message_id, to, sent in query(
                "SELECT message_id, recipient, sent_at FROM notifications_email"
            )
        },
        taken=_taken(shop),
        changes={_hex(id): n for id, n in query("SELECT id, changes FROM proving_thing")},
        effects=[
            (handler, _hex(thing), number)
            for handler, thing, number in query(
                "SELECT handler, thing_id, number FROM proving_effect ORDER BY id"
            )
        ],
        unsettled=[" ".join(map(str, row)) for row in query(UNSETTLED)],
        poison=len(poison),
        dead_poison=poison.count(("dead",)),
        bank_requests=len(requests),
        bank_keys=len(set(requests)),
        is_ordered="ordered" in inspect.signature(subscribe).parameters,
    )


def _hex(value: Any) -> str:
    return str(value).replace("-", "")


def _orders(rows: Iterable[Row]) -> dict[str, tuple[str, str, int, str]]:
    return {_hex(id): (email, status, total, number) for id, email, status, total, number in rows}


def _by_sku(rows: Iterable[Row]) -> dict[str, tuple[int, int]]:
    return {sku: (int(on_hand), int(reserved)) for sku, on_hand, reserved in rows}


def _lines(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for order, sku, quantity in rows:
        found.setdefault(_hex(order), Counter())[sku] += quantity
    return found


def _charges(shop: World) -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = {}
    with contextlib.closing(sqlite3.connect(shop.bank.folder / "bank.sqlite3")) as books:
        for kind, statement in CHARGES.items():
            for reference, amount in books.execute(statement):
                kinds = found.setdefault(_hex(reference), {name: [] for name in CHARGES})
                kinds[kind].append(amount)
    return found


def _taken(shop: World) -> list[tuple[str, str]]:
    file = shop.mail_folder / mailbox.TAKEN
    lines = file.read_text().splitlines() if file.exists() else []
    return [(line["message_id"], line["to"]) for line in map(json.loads, lines)]
