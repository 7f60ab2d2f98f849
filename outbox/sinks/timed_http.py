"""HTTP by httpcore with one time limit for a whole exchange, and the header Retry-After."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpcore

__all__ = ["TimedStream", "retry_after"]

#: Bytes of one write. httpcore restarts its time-out whenever the socket takes a part of a write.
_PART = 4096


class TimedStream(httpcore.NetworkStream):
    """Sets one deadline for all reads and writes, which single bytes do not extend.

    Args:
        stream: the stream to use.
        left: returns the seconds left, or raises `httpcore.TimeoutException`.
    """

    def __init__(self, stream: httpcore.NetworkStream, left: Callable[[], float]) -> None:
        self._stream = stream
        self._left = left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PART):
            self._stream.write(buffer[start : start + _PART], self._left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._left())
        return TimedStream(stream, self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """Return the header's seconds, or the seconds until its date; 0 if missing or invalid."""
    found = (value for name, value in headers if name.lower() == b"retry-after")
    text = next(found, b"").decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
