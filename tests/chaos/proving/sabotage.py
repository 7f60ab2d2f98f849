"""Sabotage that a run must detect: `--sabotage NAME` removes one safety part (CHAOS_SABOTAGE).

effects_before_receipt   a handler stores its effect before it enters the receipt
new_bank_keys            each request to the bank has an Idempotency-Key of its own
unordered                the ordered handler is an ordinary one
endless_leases           what the broker lost is never sent again (proving_settings)
other_message_ids        each e-mail that is sent again has another Message-ID
"""

from __future__ import annotations

import os
from typing import Any
from uuid import uuid4

import httpx

NAMES = (
    "effects_before_receipt",
    "new_bank_keys",
    "unordered",
    "endless_leases",
    "other_message_ids",
)


def is_chosen(name: str) -> bool:
    return os.environ.get("CHAOS_SABOTAGE") == name


def commit() -> None:
    """Patch what cannot be left out in a handler or in the settings."""
    if is_chosen("new_bank_keys"):
        _forget_keys()


def _forget_keys() -> None:
    send = httpx.HTTPTransport.handle_request

    def under_a_new_key(self: httpx.HTTPTransport, request: httpx.Request) -> Any:
        if "Idempotency-Key" in request.headers:
            request.headers["Idempotency-Key"] = str(uuid4())
        return send(self, request)

    httpx.HTTPTransport.handle_request = under_a_new_key  # type: ignore[method-assign]
