"""Reads of the past: lookups by reference, counts and sums."""

from __future__ import annotations

import sqlite3
from typing import Any

from .answers import Answer
from .ledger import capture_row
from .shapes import authorization_json, capture_json, refund_json, void_json

COUNTS = ("authorizations", "declines", "captures", "voids", "refunds")
SUMS = ("amount_held", "amount_captured", "amount_refunded")
CHARGES = """
SELECT
    reference,
    currency,
    SUM(a.status <> 'declined') AS authorizations,
    SUM(a.status = 'declined') AS declines,
    COUNT(c.id) AS captures,
    SUM(a.status = 'voided') AS voids,
    COALESCE(SUM(r.count), 0) AS refunds,
    SUM(CASE WHEN a.status = 'authorized' THEN a.amount ELSE 0 END) AS amount_held,
    COALESCE(SUM(c.amount), 0) AS amount_captured,
    COALESCE(SUM(r.amount), 0) AS amount_refunded
FROM authorizations AS a
LEFT JOIN captures AS c ON c.authorization_id = a.id
LEFT JOIN (
    SELECT capture_id, COUNT(*) AS count, SUM(amount) AS amount FROM refunds GROUP BY capture_id
) AS r ON r.capture_id = c.id
WHERE :reference IS NULL OR reference = :reference
GROUP BY reference, currency
ORDER BY MIN(a.number)
"""


def charges(connection: sqlite3.Connection, *, reference: str | None) -> Answer:
    """Count and sum the charges by reference, and in total by currency."""
    rows = [dict(row) for row in connection.execute(CHARGES, {"reference": reference})]
    totals = {name: sum(row[name] for row in rows) for name in COUNTS}
    return Answer(
        200,
        {
            "object": "charges",
            "data": rows,
            "totals": {**totals, "by_currency": _by_currency(rows)},
        },
    )


def _by_currency(rows: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = {}
    for row in rows:
        mine = sums.setdefault(row["currency"], dict.fromkeys(SUMS, 0))
        for name in SUMS:
            mine[name] += row[name]
    return sums


def find(connection: sqlite3.Connection, *, reference: str) -> Answer:
    rows = connection.execute(
        "SELECT * FROM authorizations WHERE reference = ? ORDER BY number DESC", [reference]
    )
    return Answer(
        200, {"object": "list", "data": [with_all_that_followed(connection, row) for row in rows]}
    )


def with_all_that_followed(
    connection: sqlite3.Connection, authorization: sqlite3.Row
) -> dict[str, Any]:
    mine, currency = [authorization["id"]], authorization["currency"]
    void_row = connection.execute("SELECT * FROM voids WHERE authorization_id = ?", mine).fetchone()
    capture_id = connection.execute(
        "SELECT id FROM captures WHERE authorization_id = ?", mine
    ).fetchone()
    refunds = connection.execute(
        "SELECT refunds.* FROM refunds JOIN captures ON captures.id = capture_id"
        " WHERE authorization_id = ? ORDER BY refunds.rowid",
        mine,
    )
    return {
        **authorization_json(authorization),
        "void": void_json(void_row) if void_row else None,
        "capture": capture_json(capture_row(connection, capture_id["id"])) if capture_id else None,
        "refunds": [refund_json(row, currency) for row in refunds],
    }
