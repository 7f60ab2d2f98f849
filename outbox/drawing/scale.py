"""Map time to pixels: linear in busy periods, with idle periods cut out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

Interval = tuple[datetime, datetime]


@dataclass(frozen=True)
class Scale:
    """A scale of time with cuts.

    Attributes:
        periods: busy periods, in order, without overlap.
        starts: start of each period in pixels.
        per_second: pixels per second.
        width: total width in pixels.
    """

    periods: Sequence[Interval]
    starts: Sequence[float]
    per_second: float
    width: float

    @property
    def cuts(self) -> list[tuple[float, timedelta]]:
        """The cuts: the middle of each in pixels, and the length of the time left out."""
        pairs = zip(self.periods, self.periods[1:], self.starts[1:], strict=False)
        return [(start - CUT / 2, after[0] - before[1]) for before, after, start in pairs]

    def x(self, time: datetime) -> float:
        """Return the position of a time; within a cut, the end of the period before it."""
        place = 0.0
        for (begin, end), start in zip(self.periods, self.starts, strict=True):
            if time < begin:
                break
            place = start + (min(time, end) - begin).total_seconds() * self.per_second
        return place


#: Width of a cut in pixels.
CUT = 28.0

_SHORTEST = timedelta(milliseconds=1)
#: Idle periods shorter than this share of all busy time are not cut out.
_WORTH_A_CUT = 0.25


def scale_of(intervals: Iterable[Interval], *, width: float) -> Scale:
    """Fit intervals into a width in pixels: linear within them, idle time between them cut out."""
    found = sorted(intervals)
    periods = _merged(found, gap=timedelta(0))
    busy = sum(((end - begin) for begin, end in periods), timedelta(0)) or _SHORTEST
    periods = _merged(periods, gap=busy * _WORTH_A_CUT)
    length = sum(((end - begin) for begin, end in periods), timedelta(0)) or _SHORTEST
    room = max(width - CUT * (len(periods) - 1), width / 2)
    per_second = room / length.total_seconds()
    starts, place = [], 0.0
    for begin, end in periods:
        starts.append(place)
        place += (end - begin).total_seconds() * per_second + CUT
    return Scale(periods, starts, per_second, max(place - CUT, 0.0))


def _merged(intervals: Iterable[Interval], *, gap: timedelta) -> list[Interval]:
    merged: list[Interval] = []
    for begin, end in intervals:
        if merged and begin - merged[-1][1] <= gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged
