"""Faults on demand: the token of the payment method names the fault and how often it occurs.

    tok_[capture_|void_|refund_]FAULT[_N]

Without an operation the fault applies at authorize. For a fault that takes time, N is its seconds.
For the others, N (default 1) is how many requests under one idempotency key it applies to. The
count is on disk: a restart keeps it.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from .answers import Answer, ConnectionDropped, Refusal, error

AFTER_SUCCESS = ("timeout_after_success", "hangs_up_after_success")
COUNTED = ("fails", "busy", "hangs_up", "stuck")
TOKEN = re.compile(
    r"tok_(?:(?P<operation>capture|void|refund)_)?"
    rf"(?P<fault>slow|{'|'.join(AFTER_SUCCESS + COUNTED)})(?:_(?P<number>[1-9]))?"
)
METHOD_OF = {
    "capture": "SELECT payment_method FROM authorizations WHERE id = ?",
    "void": "SELECT payment_method FROM authorizations WHERE id = ?",
    "refund": "SELECT payment_method FROM authorizations JOIN captures"
    " ON authorizations.id = authorization_id WHERE captures.id = ?",
}


@dataclass(frozen=True)
class Fault:
    """One kind of fault; "" is none. The number is 0 if the token has none."""

    name: str = ""
    number: int = 0

    @property
    def is_counted(self) -> bool:
        return self.name in COUNTED

    @property
    def times(self) -> int:
        return self.number or 1

    def seconds(self, default: float) -> float:
        return self.number or default


def is_known(payment_method: str) -> bool:
    return TOKEN.fullmatch(payment_method) is not None


def fault_for(operation: str, payment_method: str) -> Fault:
    found = TOKEN.fullmatch(payment_method)
    if not found or (found["operation"] or "authorize") != operation:
        return Fault()
    return Fault(found["fault"], int(found["number"] or 0))


def method_of(connection: sqlite3.Connection, operation: str, id_: str) -> str:
    """Return the payment method of an authorization or a capture; "" if there is none."""
    row = connection.execute(METHOD_OF[operation], [id_]).fetchone()
    return str(row["payment_method"]) if row else ""


def is_due(connection: sqlite3.Connection, fault: Fault, key: str) -> bool:
    """Count a use of the fault for this key. Return False if it was used often enough."""
    counted = connection.execute(
        "INSERT INTO fault_uses (idempotency_key, uses) VALUES (?, 1)"
        " ON CONFLICT (idempotency_key) DO UPDATE SET uses = uses + 1 WHERE uses < ?",
        [key, fault.times],
    )
    return counted.rowcount == 1


def fail(fault: Fault) -> None:
    """Raise the fault's failure instead of doing the work."""
    if fault.name == "hangs_up":
        raise ConnectionDropped
    if fault.name == "busy":
        raise Refusal(429, "too_many_requests", "Too many requests. Try again later.")
    if fault.name == "fails":
        raise Refusal(500, "internal_error", "Internal error. Nothing was done.")


def too_long() -> Answer:
    message = "The request exceeded the longest processing time. Nothing was done."
    return Answer(504, error("api_error", "processing_timeout", message))
