"""Tracebacks for logs without exception messages, since a message may hold personal data."""

from __future__ import annotations

import traceback


def without_texts(error: BaseException) -> str:
    """Return the frames and class names of an exception and of its causes.

    The first exception is first, as in Python. It never raises.
    """
    parts: list[str] = []
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        parts.append(f"Traceback (most recent call last):\n{_frames(one)}{type(one).__name__}")
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\n\n".join(reversed(parts))


def _frames(error: BaseException) -> str:
    try:
        return "".join(traceback.format_tb(error.__traceback__))
    except Exception:
        return "  (its frames cannot be read)\n"
