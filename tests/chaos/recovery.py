"""Measure the recovery time of the shop.

The recovery of a fault: from its end to the moment at which all that was owed at that time is
settled: each event that was stored then is fanned out and its deliveries are done. What follows
from these later is not in it, and neither is the poison, which ends as dead. Faults that come
meanwhile are part of it. It is looked at four times a second.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass

from tests.chaos.stack import Stack

#: The debts that are still to move: the first event that waits or has a delivery on its way.
OLDEST_OWED = """
SELECT min(seq) FROM (
    SELECT min(seq) AS seq FROM outbox_event WHERE fanned_out_at IS NULL
    UNION ALL
    SELECT min(d.event_id) FROM outbox_delivery d
    JOIN outbox_subscription s ON s.id = d.subscription_id
    WHERE d.state IN ('pending', 'sent', 'parked') AND s.handler <> 'proving.swallow'
) AS owed
"""
LATEST = "SELECT coalesce(max(seq), 0) FROM outbox_event"


@dataclass
class Mark:
    fault: str
    latest: int
    ended: float
    seconds: float = math.inf


class Recovery(threading.Thread):
    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self._stack = stack
        self._over = threading.Event()
        self.marks: list[Mark] = []

    def begin(self) -> None:
        """Do nothing: the recovery is measured from the end of a fault."""

    def mark(self, fault: str) -> None:
        """Record the end of a fault."""
        ended = time.monotonic()
        for _ in range(100):
            try:
                self.marks.append(Mark(fault, int(self._stack.value(LATEST)), ended))
            except Exception:  # the other lane has the database down: soon again
                time.sleep(0.1)
            else:
                return

    def run(self) -> None:
        while not self._over.wait(0.25):
            self.update()

    def stop(self) -> None:
        self._over.set()
        self.join()
        self.update()

    def update(self) -> None:
        """Record the faults that the shop has recovered from."""
        now = time.monotonic()
        try:
            oldest = self._stack.value(OLDEST_OWED)
        except Exception:  # no answer, no news
            return
        for mark in list(self.marks):
            if mark.seconds == math.inf and (oldest is None or mark.latest < oldest):
                mark.seconds = now - mark.ended

    def slowest(self, number: int = 5) -> list[str]:
        """Return the faults with the longest recovery."""
        marks = sorted(self.marks, key=lambda mark: -mark.seconds)[:number]
        return [f"{mark.fault} {mark.seconds:.1f} s" for mark in marks]

    def p99(self) -> float | None:
        """Seconds, of less than a hundred faults the longest. None without a fault, or for ever."""
        seconds = sorted(mark.seconds for mark in self.marks)
        found = seconds[math.ceil(0.99 * len(seconds)) - 1] if seconds else math.inf
        return None if found == math.inf else round(found, 1)
