"""Past days of partitioned tables, which a chaos run removes while faults happen.

`fill` converts the tables as if that had been days ago, and stores settled events in the days
since. Some events of each day are owed: their deliveries are dead. While the faults of the run
happen, a `Removal` calls `manage.py outbox prune` for one day after the other. Afterwards all
events of these days have to be gone but the owed ones, and no removal may be unfinished.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

from tests.chaos.stack import Stack
from tests.chaos.verdict import say

#: The conversion happens that many days ago: the day after it is the first one with a partition.
CONVERTED = 5
#: More than the number of events from which a whole day is removed at once.
PER_DAY = 11_000
#: Events of each day with a dead delivery.
OWED = 5
NAME = "proving.Past"
#: Its dead deliveries are no finding of the checker.
HANDLER = "proving.swallow"
_LEFT = f"SELECT count(*) FROM outbox_event WHERE name = '{NAME}'"
_LEFT_OWED = f"""
SELECT count(DISTINCT e.seq) FROM outbox_event e JOIN outbox_delivery d ON d.event_id = e.seq
WHERE e.name = '{NAME}' AND d.state = 'dead'
"""
_UNFINISHED = (
    "SELECT count(*) FROM outbox_operation WHERE choice->'low' IS NOT NULL AND finished_at IS NULL"
)
# A day that could not be removed as a whole is pruned row by row, and its record names a reason.
_WHOLE = """
SELECT count(DISTINCT choice->'low') FROM outbox_operation
WHERE choice->'low' IS NOT NULL AND finished_at IS NOT NULL AND choice->'why' IS NULL
"""


def past_days() -> list[date]:
    """Return the days that are filled, oldest first."""
    today = datetime.now(UTC).date()
    return [today - timedelta(days=number) for number in range(CONVERTED - 1, 0, -1)]


def fill() -> None:
    """Convert the tables of the default database, and store the events of the past days."""
    from outbox.models import Delivery, Event, Subscription
    from outbox.partitions.days import first_seq
    from tests.outbox.converted import convert_days_ago

    convert_days_ago(CONVERTED)
    handler = Subscription.objects.filter(handler=HANDLER).earliest("pk")
    for day in past_days():
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        first = first_seq(day)
        at = {"emitted_at": noon, "fanned_out_at": noon}
        Event.objects.bulk_create(
            [
                Event(seq=first + n, id=uuid4(), name=NAME, key=str(n), payload={},
                      correlation_id=uuid4(), **at)
                for n in range(PER_DAY)
            ],
            batch_size=1000,
        )  # fmt: skip
        Delivery.objects.bulk_create(
            [
                Delivery(event_id=first + n, subscription=handler, due_at=noon, settled_at=noon,
                         state="dead" if n < OWED else "done")
                for n in range(PER_DAY)
            ],
            batch_size=1000,
        )  # fmt: skip


class Removal(threading.Thread):
    """Removes the past days, evenly spread over a run.

    Attributes:
        failures: how many calls failed, such as those during a failover. Each was repeated.
        whole: how many days were removed as a whole, not row by row.
    """

    def __init__(self, stack: Stack, *, seconds: float) -> None:
        super().__init__(daemon=True)
        self._stack, self._seconds = stack, seconds
        self._over = threading.Event()
        self.failures = self.whole = 0
        self._said = ""

    def run(self) -> None:
        began, days = time.monotonic(), past_days()
        for number, day in enumerate(days):
            wait = began + self._seconds * (number + 0.5) / len(days) - time.monotonic()
            if self._over.wait(max(0.0, wait)):
                return
            while not self._over.is_set() and not self._remove(day):
                self.failures += 1
                self._over.wait(1)

    def conclude(self) -> list[str]:
        """Remove the remaining past days after the last fault; return the problems.

        A failover to an asynchronous standby may lose a removal, so it is repeated here.
        """
        self._over.set()
        self.join()
        days = past_days()
        if not self._remove(days[-1]):
            return [f"prune of the past days failed: {self._said}"]
        self.whole = int(self._stack.value(_WHOLE))
        say(
            f"past days removed as a whole: {self.whole} of {len(days)}",
            f"failed calls of prune, each repeated: {self.failures}",
        )
        return self._wrong(OWED * len(days))

    def _remove(self, day: date) -> bool:
        """Prune the events of a day and earlier ones; return whether the command succeeded."""
        until = datetime(day.year, day.month, day.day, 13, tzinfo=UTC)
        minutes = int((datetime.now(UTC) - until).total_seconds() // 60)
        command = ("manage.py", "outbox", "prune", "--older-than", f"{minutes}m")
        done = self._stack.run_anyway(*command)
        self._said = (done.stderr or done.stdout).strip()
        return done.returncode == 0

    def _wrong(self, owed: int) -> list[str]:
        found, dead = (int(self._stack.value(one)) for one in (_LEFT, _LEFT_OWED))
        wrong = [] if self.whole else ["no past day was removed as a whole"]
        if (found, dead) != (owed, owed):
            wrong.append(f"of {owed} owed past events {dead} are left, of all {found}")
        if unfinished := self._stack.value(_UNFINISHED):
            wrong.append(f"removals of past days that are not finished: {unfinished}")
        return wrong


if __name__ == "__main__":
    import django

    django.setup()
    fill()
