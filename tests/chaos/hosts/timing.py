"""Seconds from each fault to the first accepted order, the first handled event, an empty backlog.

The first accepted order was requested after the fault began, and answered with 201. The first
handled event was emitted after the fault began, and a handler of it is done. The backlog is empty
when all that was stored until the end of the fault is settled. Further faults are included.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.history import Call
from tests.chaos.recovery import LATEST, OLDEST_OWED

HANDLED = """
SELECT extract(epoch FROM min(d.settled_at))::float FROM outbox_delivery d
JOIN outbox_event e ON e.seq = d.event_id
WHERE d.state = 'done' AND e.emitted_at > to_timestamp(?)
"""


@dataclass
class Mark:
    """A fault, with times in seconds since the epoch.

    Attributes:
        latest: the last event that was stored when it had ended.
    """

    fault: str
    began: float
    latest: int
    order: float | None = None
    handled: float | None = None
    settled: float | None = None

    def seconds(self) -> tuple[float | None, float | None, float | None]:
        """Return the three durations; None for what did not happen."""
        ends = (self.order, self.handled, self.settled)
        first, second, third = (None if end is None else end - self.began for end in ends)
        return first, second, third


class Timing(threading.Thread):
    """Asks the database four times a second. It is the `Recovery` of a `Nemesis`."""

    def __init__(self, value: Callable[..., Any]) -> None:
        super().__init__(daemon=True)
        self._value = value
        self._over = threading.Event()
        self._began = threading.local()
        self.marks: list[Mark] = []

    def begin(self) -> None:
        """Record that a fault of this thread begins now."""
        self._began.at = time.time()

    def mark(self, fault: str) -> None:
        """Record that the fault of this thread has ended."""
        for _ in range(600):
            try:
                latest = int(self._value(LATEST))
            except Exception:  # the database is away: soon again
                time.sleep(0.1)
            else:
                self.marks.append(Mark(fault, self._began.at, latest))
                return

    def has_recovered(self) -> bool:
        """Return whether an event was handled since the last fault, and its backlog is settled."""
        return bool(self.marks and self.marks[-1].settled and self.marks[-1].handled)

    def run(self) -> None:
        while not self._over.wait(0.25):
            self.update()

    def stop(self) -> None:
        self._over.set()
        self.join()
        self.update()

    def update(self) -> None:
        """Record what has happened since."""
        try:
            oldest = self._value(OLDEST_OWED)
            now = time.time()
            for mark in list(self.marks):
                if mark.settled is None and (oldest is None or mark.latest < oldest):
                    mark.settled = now
                if mark.handled is None:
                    mark.handled = self._value(HANDLED, mark.began)
        except Exception:  # no answer: nothing is known
            return

    def conclude(self, calls: Iterable[Call]) -> None:
        """Add the first accepted orders."""
        orders = [call for call in calls if call.what == "place" and call.is_granted]
        for mark in self.marks:
            ends = [call.ended for call in orders if call.began >= mark.began]
            mark.order = min(ends, default=None)

    def lines(self) -> Iterator[str]:
        """Yield a table: for each fault its number, and median and maximum of each duration."""
        for fault, figures in self.by_fault().items():
            columns = ", ".join(f"{name} {median} to {most} s"
                                for name, (median, most) in figures["seconds"].items())  # fmt: skip
            yield f"{fault} ({figures['number']}): {columns}"

    def by_fault(self) -> dict[str, dict[str, Any]]:
        """Return for each fault its number, and (median, maximum) of the three durations."""
        found: dict[str, list[Mark]] = {}
        for mark in sorted(self.marks, key=lambda mark: mark.fault):
            found.setdefault(mark.fault, []).append(mark)
        return {fault: _figures(marks) for fault, marks in found.items()}


def _figures(marks: list[Mark]) -> dict[str, Any]:
    columns = zip(*(mark.seconds() for mark in marks), strict=True)
    names = ("order", "handled", "empty")
    seconds = {}
    for name, column in zip(names, columns, strict=True):
        known = [one for one in column if one is not None]
        if known:
            seconds[name] = (round(statistics.median(known), 1), round(max(known), 1))
    return {"number": len(marks), "seconds": seconds}
