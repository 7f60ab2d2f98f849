"""Quiet hours of a channel: a part of each day, in a named time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from outbox.sinks.entries import Entry

KEYS = ("FROM", "TO", "TIME_ZONE", "EXCEPT")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, kw_only=True)
class QuietHours:
    """Hours in which a channel gets no message, by the wall clock of a time zone.

    Attributes:
        begin: their begin.
        end: their end; before the begin, it is on the next day.
        zone: the time zone.
        exceptions: triggers whose messages are sent at any time.
    """

    begin: time
    end: time
    zone: ZoneInfo
    exceptions: frozenset[str]

    def are_now(self, now: datetime) -> bool:
        """Return whether a time is in the quiet hours."""
        clock = now.astimezone(self.zone).time()
        if self.begin < self.end:
            return self.begin <= clock < self.end
        return clock >= self.begin or clock < self.end


def quiet_hours(place: str, given: object, triggers: frozenset[str]) -> QuietHours:
    """Return the quiet hours of a setting.

    Args:
        place: the setting, for errors.
        given: its dict.
        triggers: the known triggers.

    Raises:
        ImproperlyConfigured: a value is invalid.
    """
    entry = Entry(place, given, KEYS)
    begin, end = _clock(entry, "FROM"), _clock(entry, "TO")
    if begin == end:
        raise entry.invalid("TO", "it must differ from FROM; remove QUIET_HOURS for none")
    exceptions = frozenset(entry.texts("EXCEPT", proper="a list")) if entry.has("EXCEPT") else None
    for one in sorted((exceptions or frozenset()) - triggers):
        known = ", ".join(sorted(triggers))
        raise entry.invalid("EXCEPT", f"{one!r} is no trigger; the triggers are {known}")
    return QuietHours(begin=begin, end=end, zone=_zone(entry), exceptions=exceptions or frozenset())


def _clock(entry: Entry, key: str) -> time:
    found = _CLOCK.fullmatch(entry.text(key))
    if found is None:
        raise entry.invalid(key, 'it must be a time of the day, "22:30"')
    return time(int(found[1]), int(found[2]))


def _zone(entry: Entry) -> ZoneInfo:
    name = entry.text("TIME_ZONE")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        reason = f'{name!r} is no time zone; use a name of the IANA list, "Asia/Tokyo"'
        raise entry.invalid("TIME_ZONE", reason) from None
