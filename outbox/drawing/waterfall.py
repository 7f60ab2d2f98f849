"""A timeline as a waterfall: one row per delivery with its waits, runs and retries.

The scale of time is linear in busy periods. Idle periods are cut out. Names and durations are HTML,
and the bars are SVG with places in per cent. So the waterfall fits each width, and no text is
scaled.
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

#: The width for which cuts are computed, in pixels; a page may draw it wider or narrower.
_WIDTH = 620
_ROW = 20
_BAR = 10
#: In per cent, so that a short run is visible.
_THINNEST = 0.4
#: Width of a cut in pixels.
_CUT = 20.0
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
    return svg.element(
        "div",
        *drawing.cuts(),
        drawing.axis(),
        *map(drawing.row, rows),
        class_="outbox-waterfall",
        role="group",
        aria_label=_("Waterfall: waits, runs and retries of each delivery"),
    )


def bars_of(event: TimelineEvent, delivery: TimelineDelivery, *, now: datetime) -> list[Bar]:
    """Return the periods of a delivery in order, without empty waiting periods."""
    bars: list[Bar] = []
    at = event.emitted_at
    for failure in delivery.failures:
        bars += [Bar("waiting", at, failure.started_at)]
        kind = "running" if failure.outcome == "replayed" else "failed"  # it had succeeded
        bars += [Bar(kind, failure.started_at, failure.ended_at)]
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

    def cuts(self) -> Iterator[SafeString]:
        """Draw the cuts, one picture behind all rows, and name their lengths in a sentence."""
        cuts = self.scale.cuts
        if not cuts:
            return
        lengths = ", ".join(self.span(length) for _place, length in cuts)
        words = _("Idle times are left out: %s.") % lengths
        yield svg.element("p", words, class_="outbox-waterfall-note outbox-quiet")
        lines = [self._cut(self._x_at(place), length) for place, length in cuts]
        yield svg.element("svg", *lines, class_="outbox-waterfall-cuts", aria_hidden="true")

    def axis(self) -> SafeString:
        total = self.scale.periods[-1][1] - self.scale.periods[0][0]
        ends = [svg.element("span", "0"), svg.element("span", f"+{self.span(total)}")]
        scale = svg.element("div", *ends, class_="outbox-waterfall-axis outbox-quiet")
        return svg.element("div", scale, class_="outbox-waterfall-row")

    def row(self, row: TimelineEvent | TimelineDelivery) -> SafeString:
        if isinstance(row, TimelineEvent):
            name, tip, kind = row.name, row.name, "outbox-waterfall-event"
            shapes, words = self._event(row), ""
        else:
            name, tip, kind = row.receiver, row.why or row.receiver, "outbox-waterfall-delivery"
            shapes, words = self._delivery(row), self._duration(row)
        return svg.element(
            "div",
            svg.html_link(name, href=self.address(row), class_=f"outbox-waterfall-name {kind}"),
            svg.element(
                "svg", svg.element("title", tip), *shapes, class_="outbox-bars", height=_ROW
            ),
            svg.element("span", words, class_="outbox-waterfall-span outbox-quiet"),
            class_="outbox-waterfall-row",
        )

    def _event(self, event: TimelineEvent) -> list[SafeString]:
        """Draw a diamond; its nested picture places it without a distortion."""
        middle = _ROW / 2
        corners = f"0,{middle - 5} 5,{middle} 0,{middle + 5} -5,{middle}"
        shape = svg.element("polygon", points=corners, class_="outbox-dot")
        return [self._at(event.emitted_at, shape)]

    def _delivery(self, delivery: TimelineDelivery) -> list[SafeString]:
        return [self._bar(bar) for bar in self.bars[delivery.id]]

    def _duration(self, delivery: TimelineDelivery) -> str:
        bars = self.bars[delivery.id]
        is_stuck = not bars or bars[-1].kind == "stuck"
        return "" if is_stuck else self.span(bars[-1].end - bars[0].begin)

    def _bar(self, bar: Bar) -> SafeString:
        top = (_ROW - _BAR) / 2
        if bar.kind == "stuck":
            cross = f"M 0 {top} l {_BAR} {_BAR} m 0 -{_BAR} l -{_BAR} {_BAR}"
            return self._at(bar.begin, svg.element("path", d=cross, class_="outbox-bar-stuck"))
        x = self._x(bar.begin)
        # Waiting is thinner than running, to distinguish them without colour.
        inset = 3 if bar.kind == "waiting" else 0
        return svg.element(
            "rect",
            x=_percent(x),
            y=top + inset,
            width=_percent(max(self._x(bar.end) - x, _THINNEST)),
            height=_BAR - 2 * inset,
            class_=f"outbox-bar-{bar.kind}",
        )

    def _cut(self, place: float, length: timedelta) -> SafeString:
        tip = svg.element("title", self.span(length))
        x = _percent(place)
        return svg.element("line", tip, x1=x, y1="0", x2=x, y2="100%", class_="outbox-cut")

    def _at(self, moment: datetime, shape: SafeString) -> SafeString:
        return svg.element("svg", shape, x=_percent(self._x(moment)), class_="outbox-mark")

    def _x(self, moment: datetime) -> float:
        return self._x_at(self.scale.x(moment))

    def _x_at(self, place: float) -> float:
        """Return a place of the scale in per cent of its width."""
        return 100 * place / self.scale.width if self.scale.width else 0.0


def _percent(value: float) -> str:
    return f"{value:.2f}%"


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
