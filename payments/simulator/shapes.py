"""JSON of the bank's rows."""

from __future__ import annotations

import sqlite3
from typing import Any


def authorization_json(row: sqlite3.Row) -> dict[str, Any]:
    shown = ("id", "reference", "amount", "currency", "status", "decline_code", "created")
    return {"object": "authorization", **{name: row[name] for name in shown}}


def capture_json(row: sqlite3.Row) -> dict[str, Any]:
    shown = {name: row[name] for name in ("id", "amount", "currency", "refunded", "created")}
    return {"object": "capture", "authorization": row["authorization_id"], **shown}


def void_json(row: sqlite3.Row) -> dict[str, Any]:
    return {"object": "void", "id": row["id"], "authorization": row["authorization_id"]}


def refund_json(row: sqlite3.Row, currency: str) -> dict[str, Any]:
    shown = {name: row[name] for name in ("id", "amount", "created", "idempotency_key")}
    return {"object": "refund", "capture": row["capture_id"], "currency": currency, **shown}
