"""Signatures of webhooks: HMAC-SHA256 over the time and the raw body.

The header is "t=UNIX_SECONDS,v1=HEX". It has several `v1` while the sender changes its secret. We
accept several secrets while we change ours.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

from payments.gateway.port import ReportRefused

WINDOW_SECONDS = 5 * 60
TIMESTAMP = re.compile(r"[0-9]{1,12}")


def verify(body: bytes, header: str, *, secrets: Iterable[str], now: float) -> None:
    """Raise `ReportRefused` unless one of the secrets signed the body within the window."""
    timestamp, signatures = _parse(header)
    if abs(now - timestamp) > WINDOW_SECONDS:
        raise ReportRefused("The signature is more than five minutes older or newer than now.")
    expected = [sign(body, secret, timestamp) for secret in secrets if secret]
    # Every pair is compared in constant time, so that the duration reveals nothing.
    matches = [hmac.compare_digest(one, given) for one in expected for given in signatures]
    if not any(matches):
        raise ReportRefused("The signature matches none of the secrets.")


def sign(body: bytes, secret: str, timestamp: int) -> bytes:
    """Return the signature in hexadecimal digits."""
    signed = hmac.new(secret.encode(), b"%d." % timestamp + body, hashlib.sha256)
    return signed.hexdigest().encode()


def _parse(header: str) -> tuple[int, list[bytes]]:
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    signatures = [value.encode() for name, _, value in pairs if name == "v1"]
    if len(times) != 1 or not TIMESTAMP.fullmatch(times[0]) or not signatures:
        raise ReportRefused("The signature header is missing or malformed.")
    return int(times[0]), signatures
