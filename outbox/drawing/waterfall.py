"""A timeline as a waterfall: one row per delivery with its waits, runs and retries.

The scale of time is linear in busy periods. Idle periods are cut out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from outbox.monitor.timeline import TimelineDelivery, TimelineEvent

from . import svg
from .sequence import Address

_NAMES = 300
_WIDTH = 620
_SPANS = 90
_ROW = 20
_BAR = 10
_AXIS = 26
_THINNEST = 2.0
#: Width of a cut in pixels.
_CUT = 28.0
_SHORTEST = timedelta(milliseconds=1)
#: Idle periods shorter than this share of all busy time are not cut out.
_WORTH_A_CUT = 0.25

Interval = tuple[datetime, datetime]


@dataclass(frozen=True)
class Bar:
    """A period of a delivery: `kind` is waiting, failed, running or stuck."""

    kind: str
    begin: datetime
    end: datetime


def waterfall(
    events: Sequence[TimelineEvent],
    *,
    now: datetime,
    span: Callable[[timedelta], str],
    address: Address = lambda _row: "",
) -> SafeString:
    """Draw a timeline as a waterfall.

    Times in which nothing was owed are cut out. So the first second of an order is visible even if
    it was shipped two days later.

    Args:
        events: in drawing order.
        now: end of unfinished bars.
        span: formats a length of time.
        address: returns the URL of an event or a delivery; "" for none.
    """
    bars = {one.id: bars_of(event, one, now=now) for event in events for one in event.deliveries}
    scale = scale_of(_intervals(events, bars), width=_WIDTH)
    drawing = _Drawing(bars, scale, span, address)
    rows: list[TimelineEvent | TimelineDelivery] = []
    for event in events:
        rows += [event, *event.deliveries]
    return svg.picture(
        *drawing.axis(bottom=_AXIS + _ROW * len(rows)),
        *(drawing.row(row, _AXIS + _ROW * number) for number, row in enumerate(rows)),
        width=_NAMES + _WIDTH + _SPANS,
        height=_AXIS + _ROW * len(rows) + 6,
        label=_("Waterfall: waits, runs and retries of each delivery"),
    )


def bars_of(event: TimelineEvent, delivery: TimelineDelivery, *, now: datetime) -> list[Bar]:
    """Return the periods of a delivery in order, without empty waiting periods."""
    bars: list[Bar] = []
    at = event.emitted_at
    for failure in delivery.failures:
        bars += [Bar("waiting", at, failure.started_at)]
        bars += [Bar("failed", failure.started_at, failure.ended_at)]
        at = max(at, failure.ended_at)
    bars += _last(delivery, at, now=now)
    return [bar for bar in bars if bar.end > bar.begin or bar.kind != "waiting"]


def _last(delivery: TimelineDelivery, at: datetime, *, now: datetime) -> list[Bar]:
    started, settled = delivery.started_at, delivery.settled_at
    runs = started is not None and started >= at
    if settled is not None:
        begin = started if runs and started is not None else settled
        return [Bar("waiting", at, begin), Bar("running", begin, settled)]
    if delivery.state == "sent" and runs and started is not None:
        return [Bar("waiting", at, started), Bar("running", started, now)]
    if delivery.state in ("dead", "parked"):
        return [Bar("stuck", at, at)]
    return [Bar("waiting", at, now)]


def _intervals(events: Sequence[TimelineEvent], bars: dict[int, list[Bar]]) -> list[Interval]:
    found = [(event.emitted_at, event.emitted_at) for event in events]
    return found + [(bar.begin, bar.end) for row in bars.values() for bar in row]


@dataclass(frozen=True)
class _Drawing:
    bars: dict[int, list[Bar]]
    scale: Scale
    span: Callable[[timedelta], str]
    address: Address

    def axis(self, *, bottom: float) -> Iterator[SafeString]:
        first, last = self.scale.periods[0], self.scale.periods[-1]
        yield svg.text("0", x=_NAMES, y=14, class_="outbox-faint", anchor="middle")
        total = self.span(last[1] - first[0])
        end = _NAMES + self.scale.width
        yield svg.text(f"+{total}", x=end, y=14, class_="outbox-faint", anchor="middle")
        for x in (_NAMES, end):
            yield svg.element("line", x1=x, y1=_AXIS - 6, x2=x, y2=bottom, class_="outbox-gridline")
        for place, length in self.scale.cuts:
            x = _NAMES + place
            words = f"⋯ {self.span(length)}"
            yield svg.text(words, x=x, y=14, class_="outbox-faint", anchor="middle")
            yield svg.element("line", x1=x, y1=_AXIS - 6, x2=x, y2=bottom, class_="outbox-cut")

    def row(self, row: TimelineEvent | TimelineDelivery, y: float) -> SafeString:
        drawn = self._event(row, y) if isinstance(row, TimelineEvent) else self._delivery(row, y)
        tip = row.name if isinstance(row, TimelineEvent) else row.why or row.receiver
        return svg.link(svg.element("g", *drawn), href=self.address(row), tip=tip)

    def _event(self, event: TimelineEvent, y: float) -> list[SafeString]:
        x, middle = _NAMES + self.scale.x(event.emitted_at), y + _ROW / 2
        name = svg.text(event.name, x=0, y=middle + 4, class_="outbox-event-name")
        corners = f"{x},{middle - 5} {x + 5},{middle} {x},{middle + 5} {x - 5},{middle}"
        return [name, svg.element("polygon", points=corners, class_="outbox-dot")]

    def _delivery(self, delivery: TimelineDelivery, y: float) -> list[SafeString]:
        bars = self.bars[delivery.id]
        drawn = [svg.text(delivery.receiver, x=14, y=y + _ROW / 2 + 4, class_="outbox-words")]
        drawn += [self._bar(bar, y) for bar in bars]
        if bars and bars[-1].kind != "stuck":
            end = _NAMES + self.scale.x(bars[-1].end) + 6
            words = self.span(bars[-1].end - bars[0].begin)
            drawn.append(svg.text(words, x=end, y=y + _ROW / 2 + 4, class_="outbox-faint"))
        return drawn

    def _bar(self, bar: Bar, y: float) -> SafeString:
        x, top = _NAMES + self.scale.x(bar.begin), y + (_ROW - _BAR) / 2
        if bar.kind == "stuck":
            cross = f"M {x} {top} l {_BAR} {_BAR} m 0 -{_BAR} l -{_BAR} {_BAR}"
            return svg.element("path", d=cross, class_="outbox-bar-stuck")
        width = max(_NAMES + self.scale.x(bar.end) - x, _THINNEST)
        # Waiting is thinner than running, to distinguish them without colour.
        inset = 3 if bar.kind == "waiting" else 0
        return svg.element(
            "rect",
            x=x,
            y=top + inset,
            width=width,
            height=_BAR - 2 * inset,
            class_=f"outbox-bar-{bar.kind}",
        )


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
        return [(start - _CUT / 2, after[0] - before[1]) for before, after, start in pairs]

    def x(self, time: datetime) -> float:
        """Return the position of a time; within a cut, the end of the period before it."""
        place = 0.0
        for (begin, end), start in zip(self.periods, self.starts, strict=True):
            if time < begin:
                break
            place = start + (min(time, end) - begin).total_seconds() * self.per_second
        return place


def scale_of(intervals: Iterable[Interval], *, width: float) -> Scale:
    """Fit intervals into a width in pixels: linear within them, idle time between them cut out."""
    found = sorted(intervals)
    periods = _merged(found, gap=timedelta(0))
    busy = sum(((end - begin) for begin, end in periods), timedelta(0)) or _SHORTEST
    periods = _merged(periods, gap=busy * _WORTH_A_CUT)
    length = sum(((end - begin) for begin, end in periods), timedelta(0)) or _SHORTEST
    room = max(width - _CUT * (len(periods) - 1), width / 2)
    per_second = room / length.total_seconds()
    starts, place = [], 0.0
    for begin, end in periods:
        starts.append(place)
        place += (end - begin).total_seconds() * per_second + _CUT
    return Scale(periods, starts, per_second, max(place - _CUT, 0.0))


def _merged(intervals: Iterable[Interval], *, gap: timedelta) -> list[Interval]:
    merged: list[Interval] = []
    for begin, end in intervals:
        if merged and begin - merged[-1][1] <= gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged
