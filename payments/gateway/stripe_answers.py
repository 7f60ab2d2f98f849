"""Parse Stripe's objects, as plain dictionaries, into the port's types. Needs no SDK."""

from __future__ import annotations

import json
from typing import Any

from payments.gateway.bank_answers import short_code, short_id, short_text
from payments.gateway.port import (
    Authorization,
    BankRecord,
    Capture,
    GatewayRefused,
    Refund,
    RefundPending,
    Report,
    ReportRefused,
    Void,
)
from shared.money import Money

Json = dict[str, Any]

HELD_OR_TAKEN = {"requires_capture", "succeeded"}
#: A refund in one of these states returns nothing.
FAILED_REFUND = {"failed", "canceled"}


def read_authorization(intent: Json) -> Authorization:
    return Authorization(
        authorization_id=short_id(intent["id"]),
        amount=_money(intent["amount"], intent),
        declined_reason=_declined_reason(intent),
    )


def read_capture(intent: Json) -> Capture:
    if reason := _declined_reason(intent):
        return Capture(
            capture_id="",
            authorization_id=intent["id"],
            amount=_money(intent["amount"], intent),
            declined_reason=reason,
        )
    return Capture(
        capture_id=short_id(_id(intent["latest_charge"])),
        authorization_id=intent["id"],
        amount=_money(intent["amount_received"], intent),
    )


def read_void(intent: Json) -> Void:
    if intent["status"] != "canceled":
        raise ValueError(f"The PaymentIntent is {intent['status']}, not canceled.")
    return Void(void_id=short_id(intent["id"]), authorization_id=intent["id"])


def read_refund(refund: Json) -> Refund:
    """Return a refund that is made.

    Raises:
        RefundPending: it may still fail. A report or `find` has the result.
        GatewayRefused: it has failed.
    """
    status = refund["status"]
    if status in FAILED_REFUND:
        text = (
            f"Stripe could not make the refund {refund['id']}. It is requested a second time after "
            "a day, and never a third time."
        )
        raise GatewayRefused(short_text(refund.get("failure_reason") or status), text)
    if status != "succeeded":
        text = f"Stripe's refund {refund['id']} is {status}. This is tried again until it is made."
        raise RefundPending(text)
    return Refund(
        refund_id=short_id(refund["id"]),
        capture_id=_id(refund["charge"]),
        amount=_money(refund["amount"], refund),
        key=_key(refund),
    )


def read_record(intent: Json) -> BankRecord:
    charge = intent.get("latest_charge")
    refunds = (charge.get("refunds") or {}).get("data", []) if isinstance(charge, dict) else []
    made = [one for one in refunds if one["status"] == "succeeded"]
    failed = [one for one in refunds if one["status"] in FAILED_REFUND]
    pending = [one for one in refunds if one not in made and one not in failed]
    is_void = intent["status"] == "canceled" and not intent.get("last_payment_error")
    return BankRecord(
        authorization=read_authorization(intent),
        void=read_void(intent) if is_void else None,
        capture=read_capture(intent) if intent["status"] == "succeeded" else None,
        refunds=tuple(read_refund(one) for one in reversed(made)),  # theirs: the latest first
        pending=tuple(_key(one) for one in pending),
        failed=tuple(_key(one) for one in failed),
    )


def read_report(body: bytes) -> Report:
    try:
        event = json.loads(body.decode())
        about = event["data"]["object"]
        is_intent = about["object"] == "payment_intent"
        is_refund = about["object"] == "refund"
        is_made = is_refund and about["status"] == "succeeded"
        return Report(
            report_id=short_text(event["id"]),
            kind=short_text(event["type"]),
            reference=_reference(about),
            found=read_record(about) if is_intent else None,
            refunds=(read_refund(about),) if is_made else (),
            refund_keys=(_key(about),) if is_refund else (),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReportRefused("The report is signed, but cannot be parsed.") from error


def _reference(about: Json) -> str:
    reference = (about.get("metadata") or {}).get("reference")
    return short_text(reference) if reference else ""


def _declined_reason(intent: Json) -> str:
    """Return the decline code; "" if the money is or was held. Raise ValueError in between."""
    error = intent.get("last_payment_error")
    if intent["status"] in HELD_OR_TAKEN or (intent["status"] == "canceled" and not error):
        return ""
    if error and intent["status"] in {"requires_payment_method", "canceled"}:
        return short_code(error.get("decline_code") or error["code"])
    raise ValueError(f"The PaymentIntent is {intent['status']}.")


def _key(refund: Json) -> str:
    return str((refund.get("metadata") or {}).get("key", ""))


def _money(amount: int, of: Json) -> Money:
    return Money(amount=amount, currency=of["currency"].upper())


def _id(value: str | Json) -> str:
    """Return the id of an object that is given as its id or expanded."""
    return value if isinstance(value, str) else str(value["id"])
