"""The bank's rules for authorizing, capturing, voiding and refunding. The caller commits."""

from __future__ import annotations

import secrets
import sqlite3
from typing import Any

from . import faults
from .answers import Answer, Refusal, error
from .shapes import authorization_json, capture_json, refund_json, void_json
from .storage import now

DECLINES = {
    "tok_success": None,
    "tok_declined": "insufficient_funds",
    "tok_declined_at_capture": None,
}
DECLINES_AT_CAPTURE = {"tok_declined_at_capture": "expired_card"}


def authorize(
    connection: sqlite3.Connection,
    *,
    reference: str,
    amount: int,
    currency: str,
    payment_method: str,
) -> Answer:
    unknown = None if faults.is_known(payment_method) else "unknown_payment_method"
    decline_code = DECLINES.get(payment_method, unknown)
    status = "declined" if decline_code else "authorized"
    authorization_id = _new_id("auth")
    connection.execute(
        "INSERT INTO authorizations"
        " (id, reference, amount, currency, status, decline_code, created, payment_method)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            *(authorization_id, reference, amount, currency, status, decline_code, now()),
            payment_method,
        ],
    )
    authorization = authorization_json(_authorization(connection, authorization_id))
    return _declined(authorization) if decline_code else Answer(200, authorization)


def capture(
    connection: sqlite3.Connection, *, authorization_id: str, amount: int, currency: str
) -> Answer:
    authorization = _authorized(connection, authorization_id)
    _same_currency(authorization, currency)
    if amount > authorization["amount"]:
        raise Refusal(400, "amount_too_large", f"Only {authorization['amount']} is authorized.")
    if code := DECLINES_AT_CAPTURE.get(authorization["payment_method"]):
        return _decline_capture(connection, authorization_id, code)
    capture_id = _new_id("cap")
    connection.execute(
        "INSERT INTO captures VALUES (?, ?, ?, ?)", [capture_id, authorization_id, amount, now()]
    )
    _set_status(connection, authorization_id, "captured")
    return Answer(200, capture_json(capture_row(connection, capture_id)))


def _decline_capture(connection: sqlite3.Connection, authorization_id: str, code: str) -> Answer:
    """Capture nothing and release the hold: the authorization becomes a declined one."""
    connection.execute(
        "UPDATE authorizations SET status = 'declined', decline_code = ? WHERE id = ?",
        [code, authorization_id],
    )
    return _declined(authorization_json(_authorization(connection, authorization_id)))


def void(connection: sqlite3.Connection, *, authorization_id: str) -> Answer:
    _authorized(connection, authorization_id)
    void_id = _new_id("void")
    connection.execute("INSERT INTO voids VALUES (?, ?, ?)", [void_id, authorization_id, now()])
    _set_status(connection, authorization_id, "voided")
    row = connection.execute("SELECT * FROM voids WHERE id = ?", [void_id]).fetchone()
    return Answer(200, void_json(row))


def refund(
    connection: sqlite3.Connection, *, capture_id: str, amount: int, currency: str, key: str
) -> Answer:
    captured = capture_row(connection, capture_id)
    _same_currency(captured, currency)
    left = captured["amount"] - captured["refunded"]
    if amount > left:
        raise Refusal(400, "amount_too_large", f"Only {left} of the capture is left to refund.")
    refund_id = _new_id("ref")
    connection.execute(
        "INSERT INTO refunds (id, capture_id, amount, created, idempotency_key)"
        " VALUES (?, ?, ?, ?, ?)",
        [refund_id, capture_id, amount, now(), key],
    )
    row = connection.execute("SELECT * FROM refunds WHERE id = ?", [refund_id]).fetchone()
    return Answer(200, refund_json(row, currency))


def _authorization(connection: sqlite3.Connection, authorization_id: str) -> sqlite3.Row:
    row = connection.execute(
        "SELECT * FROM authorizations WHERE id = ?", [authorization_id]
    ).fetchone()
    if row is None:
        raise Refusal(404, "not_found", f"There is no authorization {authorization_id}.")
    return row  # type: ignore[no-any-return]  # sqlite3 types every row as Any


def _authorized(connection: sqlite3.Connection, authorization_id: str) -> sqlite3.Row:
    row = _authorization(connection, authorization_id)
    if row["status"] != "authorized":
        message = f"The authorization is {row['status']}, so it cannot be captured or voided."
        raise Refusal(409, "unexpected_state", message)
    return row


def capture_row(connection: sqlite3.Connection, capture_id: str) -> sqlite3.Row:
    row = connection.execute(
        "SELECT captures.*, currency,"
        " (SELECT COALESCE(SUM(amount), 0) FROM refunds WHERE capture_id = captures.id) AS refunded"
        " FROM captures JOIN authorizations ON authorizations.id = authorization_id"
        " WHERE captures.id = ?",
        [capture_id],
    ).fetchone()
    if row is None:
        raise Refusal(404, "not_found", f"There is no capture {capture_id}.")
    return row  # type: ignore[no-any-return]  # sqlite3 types every row as Any


def _same_currency(row: sqlite3.Row, currency: str) -> None:
    if row["currency"] != currency:
        raise Refusal(400, "currency_mismatch", f"The authorization is in {row['currency']}.")


def _set_status(connection: sqlite3.Connection, authorization_id: str, status: str) -> None:
    connection.execute(
        "UPDATE authorizations SET status = ? WHERE id = ?", [status, authorization_id]
    )


def _declined(authorization: dict[str, Any]) -> Answer:
    code = authorization["decline_code"]
    message = "The payment method was declined."
    more = {"decline_code": code, "authorization": authorization}
    return Answer(402, error("card_error", "card_declined", message, **more))


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"
