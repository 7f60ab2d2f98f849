"""HTTP requests of customers and staff, and their answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request.

    Attributes:
        what: "place", "cancel", "ship" or "refund".
        name: what it wants, the same for its repetitions: the Idempotency-Key, or the order's id.
        order_id: the order that it is about; of "place", the one that was answered.
        wanted: the request's body.
        status: the answer's; None if none came, or one that says that nobody knows (5xx).
        answer: the answer's body.
        trouble: why there is no answer.
        began, ended: seconds since the epoch.
    """

    what: str
    name: str
    order_id: str = ""
    wanted: dict[str, Any] = field(default_factory=dict)
    status: int | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""
    began: float = 0.0
    ended: float = 0.0

    @property
    def is_granted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_ambiguous(self) -> bool:
        """The client does not know whether the request was executed."""
        return self.status is None


class History:
    """The calls in the order of their answers; each is also a line of a file."""

    def __init__(self, file: Path | None = None) -> None:
        self.calls: list[Call] = []
        self._file = file
        self._lock = threading.Lock()

    def add(self, call: Call) -> None:
        with self._lock:
            self.calls.append(call)
            if self._file:
                with self._file.open("a") as file:
                    file.write(json.dumps(asdict(call)) + "\n")

    def placed(self) -> list[str]:
        """Return the orders with an answer 201, each once, in the order of their answers."""
        with self._lock:
            return list(dict.fromkeys(c.order_id for c in self.calls if _is_order(c)))


def by_name(calls: Iterable[Call], what: str) -> dict[str, list[Call]]:
    """Return the calls of one kind, grouped by their name."""
    found: dict[str, list[Call]] = {}
    for call in calls:
        if call.what == what:
            found.setdefault(call.name, []).append(call)
    return found


def now() -> float:
    return time.time()


def _is_order(call: Call) -> bool:
    return call.what == "place" and call.is_granted
