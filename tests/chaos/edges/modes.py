"""What a proxy does with the requests and answers that pass it."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Mode(StrEnum):
    """A way to distort answers. The real server carries out the request unless it says otherwise.

    PASS: nothing is distorted.
    CUT: connections end, and new ones end at once. Nothing reaches the server.
    LATE: answers wait until the mode ends.
    LOST: answers are dropped, and connections end with the mode.
    PARTIAL: each acknowledgement is dropped, or turned into a failure, with probability 1/2.
    DOUBLE: each acknowledgement comes twice; where that is impossible, each request does.
    THROTTLED: requests are refused for a rate. Nothing reaches the server.
    EXPIRED: credentials are refused. Nothing reaches the server.
    """

    PASS = "pass"
    CUT = "cut"
    LATE = "late"
    LOST = "lost"
    PARTIAL = "partial"
    DOUBLE = "double"
    THROTTLED = "throttled"
    EXPIRED = "expired"


class Distorted(Protocol):
    """A system whose answers can be distorted."""

    def put(self, mode: Mode) -> None:
        """Distort answers from now on, or pass them again."""
