"""Follow the outbox by polling, on any database.

Each poll reads the newest rows, up to a bound. A transaction that commits late may have a lower
number than rows read before it. So the follower remembers all rows it has read, not the last
number. It shows no payload, and so no sensitive field.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from outbox import clock, databases
from outbox.formatting import format_time, one_line
from outbox.models import Delivery, Event

_MAX_ROWS = 1000

State = Delivery.State


@dataclass(kw_only=True)
class Follower:
    """Yields the changes since its previous poll.

    Attributes:
        handler: only deliveries to this handler.
        event: only this event name.
        key: only this key.
        last: number of stored events to begin with.
        using: the outbox's database alias.
    """

    handler: str = ""
    event: str = ""
    key: str = ""
    last: int = 0
    using: str = field(default_factory=databases.alias)
    _events: dict[int, None] = field(default_factory=dict)
    _deliveries: dict[int, tuple[str, int]] = field(default_factory=dict)
    _first: int | None = None

    def poll(self) -> Iterator[str]:
        """Yield a line for each new event and each changed delivery since the previous poll."""
        if self._first is None:
            newest = list(self._matching_events().values_list("seq", flat=True)[: self.last or 1])
            self._first = (newest[-1] if self.last else newest[0] + 1) if newest else 0
        lines = [*self._new_events(), *self._moved_deliveries()]
        for _when, text in sorted(lines, key=lambda line: line[0]):
            yield text

    def _matching_events(self) -> QuerySet[Event]:
        rows = Event.objects.using(self.using).order_by("-seq").defer("payload")
        rows = rows.filter(name=self.event) if self.event else rows
        return rows.filter(key=self.key) if self.key else rows

    def _new_events(self) -> Iterator[tuple[datetime, str]]:
        for event in self._matching_events().filter(seq__gte=self._first)[:_MAX_ROWS]:
            if event.seq in self._events:
                continue
            self._events[event.seq] = None
            by = event.emitted_by or event.actor or "-"
            if not self.handler:
                when = event.emitted_at
                yield when, _line(when, event.name, event.key, _("emitted by %(by)s") % {"by": by})

    def _moved_deliveries(self) -> Iterator[tuple[datetime, str]]:
        rows = Delivery.objects.using(self.using).filter(event__gte=self._first)
        rows = rows.filter(subscription__handler=self.handler) if self.handler else rows
        rows = rows.filter(event__name=self.event) if self.event else rows
        rows = rows.filter(event__key=self.key) if self.key else rows
        found = rows.select_related("event", "subscription").defer("event__payload")
        for row in found.order_by("-pk")[:_MAX_ROWS]:
            now = row.state, row.attempts
            if self._deliveries.get(row.pk) != now:
                self._deliveries[row.pk] = now
                when = row.settled_at or row.started_at or row.event.emitted_at
                yield when, _line(when, row.receiver, row.event.key, _moved(row))


def _moved(row: Delivery) -> str:
    note = f": {one_line(row.note)}" if row.note else ""
    tried = (
        (" " + _("after %(attempts)s attempts") % {"attempts": row.attempts})
        if row.attempts > 1
        else ""
    )
    if row.state == State.PENDING and row.due_at > clock.now():
        text = _("failed%(tried)s, retried at %(due_at)s%(note)s")
        if not row.attempts:  # handed back, or a failure that used up no attempt
            text = _("sent again at %(due_at)s%(note)s")
        return text % {"tried": tried, "due_at": format_time(row.due_at), "note": note}
    return f"{row.get_state_display()}{tried}{note}"


def _line(when: datetime, name: str, key: str, text: str) -> str:
    return f"{when.astimezone(UTC):%H:%M:%S} UTC  {name}  {key}  {text}"
