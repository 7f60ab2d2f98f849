"""Signatures by Standard Webhooks 1.0.0, so that any library of a receiver can verify them.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

The signed text is "{webhook-id}.{webhook-timestamp}.{body}", by HMAC-SHA256. The id is the same at
each attempt of one message; the timestamp is that of the attempt. While a secret changes there is
one signature for each of the two secrets, separated by a space.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

__all__ = ["headers", "is_secret", "new_secret"]

PREFIX = "whsec_"
_BYTES = 32
#: Bytes that the specification allows for a secret.
_ALLOWED_BYTES = range(24, 65)


def new_secret() -> str:
    """Return 256 random bits in the format of the specification."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def is_secret(text: str) -> bool:
    """Return whether a text is a secret in the format of the specification."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except ValueError:
        return False
    return len(key) in _ALLOWED_BYTES


def headers(*, message_id: str, timestamp: int, body: bytes, keys: Iterable[str]) -> dict[str, str]:
    """Return the three headers of one attempt, signed with each of the secrets."""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(signed, key) for key in keys),
    }


def _signature(signed: bytes, secret: str) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()
