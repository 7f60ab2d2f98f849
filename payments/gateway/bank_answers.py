"""Parse the bank's answers into the port's types or its exceptions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from payments.gateway.port import (
    Authorization,
    BankRecord,
    Capture,
    GatewayRefused,
    GatewayUnavailable,
    OutcomeUnknown,
    Refund,
    Report,
    ReportRefused,
    Void,
)
from shared.money import Money

Json = dict[str, Any]
Result = TypeVar("Result")

#: Characters of the column that has a decline's code, and of those that have the bank's ids.
LONGEST_CODE = LONGEST_ID = 100

DECLINED, REQUEST_TIMEOUT, TOO_MANY_REQUESTS = 402, 408, 429


def raise_for_status(response: httpx.Response) -> None:
    status = response.status_code
    if status < 300 or status == DECLINED:
        return
    if status == TOO_MANY_REQUESTS:
        raise GatewayUnavailable("The bank answered 429: too many requests.")
    if status == REQUEST_TIMEOUT or not 400 <= status < 500:
        raise OutcomeUnknown(f"The bank answered {status}.")
    error = _error(response)
    raise GatewayRefused(error.get("code", str(status)), error.get("message", "No reason given."))


def short_text(value: object) -> str:
    """Return an id or a code; raise ValueError if it cannot be stored."""
    if isinstance(value, str) and value.isprintable() and 1 <= len(value) <= 200:
        return value
    raise ValueError("The value is not a printable text of 1 to 200 characters.")


def short_id(value: object) -> str:
    """Return an id of the bank; raise ValueError if its column cannot hold it.

    SQLite stores a longer one, PostgreSQL does not. So it is refused before money is recorded.
    """
    if len(text := short_text(value)) > LONGEST_ID:
        raise ValueError(f"The id has {len(text)} characters, and its column {LONGEST_ID}.")
    return text


def short_code(value: object) -> str:
    """Return the code of a decline, cut to its column; raise ValueError as `short_text`."""
    return short_text(value)[:LONGEST_CODE]


def _error(response: httpx.Response) -> Json:
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


def read(response: httpx.Response, parse: Callable[[Json], Result]) -> Result:
    try:
        answer = response.json()
        if response.status_code == DECLINED:
            answer = answer["error"]["authorization"]
            short_text(answer["decline_code"])  # without a reason it would count as held money
        return parse(answer)
    except (ValueError, KeyError, TypeError) as error:
        message = f"The bank answered {response.status_code} with a body that cannot be parsed."
        raise OutcomeUnknown(message) from error


def _declined_reason(authorization: Json) -> str:
    """Return the decline code; "" if the money is or was held. A decline must have a code."""
    code = authorization["decline_code"]
    return short_code(code) if code or authorization.get("status") == "declined" else ""


def _money(answer: Json) -> Money:
    return Money(amount=answer["amount"], currency=answer["currency"])


def read_authorization(answer: Json) -> Authorization:
    return Authorization(
        authorization_id=short_id(answer["id"]),
        amount=_money(answer),
        declined_reason=_declined_reason(answer),
    )


def read_capture(answer: Json) -> Capture:
    if answer["object"] == "authorization":  # a declined capture leaves a declined authorization
        return Capture(
            capture_id="",
            authorization_id=answer["id"],
            amount=_money(answer),
            declined_reason=short_code(answer["decline_code"]),
        )
    return Capture(
        capture_id=short_id(answer["id"]),
        authorization_id=answer["authorization"],
        amount=_money(answer),
    )


def read_void(answer: Json) -> Void:
    return Void(void_id=short_id(answer["id"]), authorization_id=answer["authorization"])


def read_refund(answer: Json) -> Refund:
    return Refund(
        refund_id=short_id(answer["id"]),
        capture_id=answer["capture"],
        amount=_money(answer),
        key=answer["idempotency_key"],
    )


def read_record(answer: Json) -> BankRecord:
    return BankRecord(
        authorization=read_authorization(answer),
        void=read_void(answer["void"]) if answer["void"] else None,
        capture=read_capture(answer["capture"]) if answer["capture"] else None,
        refunds=tuple(read_refund(one) for one in answer["refunds"]),
    )


def read_report(body: bytes) -> Report:
    try:
        event = json.loads(body.decode())
        found = read_record(event["data"])
        return Report(
            report_id=short_text(event["id"]),
            kind=short_text(event["type"]),
            reference=short_text(event["data"]["reference"]),
            found=found,
            refunds=found.refunds,
            refund_keys=tuple(one.key for one in found.refunds),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ReportRefused("The report is signed, but cannot be parsed.") from error
