"""The backlog of a source: owed deliveries of its events. A source with a large one pauses."""

from __future__ import annotations

import logging
import time

from outbox import databases
from outbox.events import selects
from outbox.models import Delivery, Event, Subscription

from .configuration import SourceConfig
from .events import declared_by
from .state import note_pause

logger = logging.getLogger("outbox.sources")

#: Seconds between two counts, or more if a count takes long.
_EVERY = 1.0
#: How many times as long as it looks at lag or backlog a receiver works afterwards.
WORK_PER_LOOK = 9
#: Seconds after which a pause, or its end, is stored again: other processes store theirs.
_NOTE_EVERY = 60.0

State = Delivery.State
#: A dead delivery waits for a person, so it does not hold the source.
_COUNTED = (State.PENDING, State.SENT, State.PARKED, State.BLOCKED)


def backlog(source: str, *, at_most: int, using: str | None = None) -> int:
    """Return the number of owed deliveries of a source's events, without dead ones.

    Events that wait for fan-out count, too. Counting ends at `at_most`. A handler or sink of all
    events may have many owed deliveries of others, which are read as well.
    """
    using = using or databases.alias()
    events = Event.objects.using(using).filter(fanned_out_at=None, name__startswith=f"{source}.")
    number = events.order_by()[:at_most].count()
    rows = Delivery.objects.using(using).filter(
        subscription__in=_subscriptions(source, using=using), event__name__startswith=f"{source}."
    )
    for state in _COUNTED:  # one query each: each state has its own index
        if number >= at_most:
            return at_most
        number += rows.filter(state=state).order_by()[: at_most - number].count()
    return number


def _subscriptions(source: str, *, using: str) -> list[int]:
    """Return the subscriptions that are owed external events of the source."""
    names = [event.event_name for event in declared_by(source)]
    rows = Subscription.objects.using(using).values_list("pk", "event")
    return [pk for pk, selector in rows if any(selects(selector, name) for name in names)]


class Brake:
    """Decides whether a source is paused: from `MAX_BACKLOG` on, until less than half is left."""

    def __init__(self, source: SourceConfig, *, using: str | None = None) -> None:
        self._source = source
        self._using = using or databases.alias()
        self._count_at = 0.0
        self._noted_at: float | None = None
        self.is_on = False

    def is_needed(self) -> bool:
        """Return whether the source must not receive now.

        Count at most once a second, and for at most a tenth of the time.
        """
        began = time.monotonic()
        if began >= self._count_at:
            self._decide()
            ended = time.monotonic()
            self._count_at = max(began + _EVERY, ended + WORK_PER_LOOK * (ended - began))
        return self.is_on

    def _decide(self) -> None:
        most = self._source.max_backlog
        limit = (most + 1) // 2 if self.is_on else most
        is_on = backlog(self._source.name, at_most=limit, using=self._using) >= limit
        if is_on != self.is_on or self._is_to_note(is_on):
            note_pause(self._source.name, is_paused=is_on, using=self._using)
        if is_on and not self.is_on:
            logger.warning(
                "%s is paused: its events have %d owed deliveries or more (MAX_BACKLOG). It "
                "continues when less than half of them are left.",
                self._source.name,
                most,
            )
        elif self.is_on and not is_on:
            logger.info("%s continues.", self._source.name)
        self.is_on = is_on

    def _is_to_note(self, is_on: bool) -> bool:
        """Return whether to store the state again, although it has not changed.

        Another process that paused may have ended without clearing it. Between half of the limit
        and the limit both states are right.
        """
        now, before = time.monotonic(), self._noted_at
        if before is not None and now - before < _NOTE_EVERY:
            return False
        self._noted_at = now
        half = (self._source.max_backlog + 1) // 2
        left = backlog(self._source.name, at_most=half, using=self._using)
        return before is None or is_on or left < half
