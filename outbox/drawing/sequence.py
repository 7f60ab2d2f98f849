"""A timeline as a sequence diagram: apps as lifelines, events as arrows, time downwards.

An event is a dot on the lifeline of the emitting app. Below it, each delivery is an arrow to the
app of its handler, drawn by its state. A long diagram repeats the apps' names, so that they are
visible at every scroll position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.monitor.timeline import TimelineDelivery, TimelineEvent

from . import svg

Address = Callable[[TimelineEvent | TimelineDelivery], str]

#: Widest and narrowest distance of two lifelines, and the room beside Django's sidebar in a window
#: of 1024 pixels. A diagram with up to six apps fits into it.
_COLUMN, _NARROWEST, _ROOM = 176, 96, 656
_ROW = 26
_EVENT_ROW = 32
_HEAD = 40
_MARGIN = 70
#: Room for the longest label of a diagram with one app or two.
_MIN_WIDTH = 440
_LOOP = 22
#: Distance of repeated names in pixels: less than the height of a small window.
_NAMES_AGAIN = 480

_MERMAID_ARROWS = {"done": "->>", "dead": "-x", "discarded": "-x"}


def sequence(
    events: Sequence[TimelineEvent],
    *,
    address: Address = lambda _row: "",
    when: Callable[[TimelineEvent], str] = lambda _event: "",
) -> SafeString:
    """Draw a timeline as a sequence diagram.

    Args:
        events: in drawing order.
        address: returns the URL of an event or a delivery; "" for none.
        when: returns the text next to an event's name, for example "+0.42 s".
    """
    apps = _apps(events)
    column = min(_COLUMN, max(_NARROWEST, (_ROOM - _MARGIN) // max(len(apps), 1)))
    columns = {app: _MARGIN + column * number for number, app in enumerate(apps)}
    layout = _laid_out(events)
    width = max(_MARGIN + column * len(columns), _MIN_WIDTH)
    drawing = _Drawing(columns, column, width, layout, address, when)
    return svg.picture(
        *drawing.lifelines(),
        *drawing.rows(),
        width=width,
        height=layout.bottom,
        label=_("Sequence diagram: events between apps, time downwards"),
    )


@dataclass(frozen=True)
class _Row:
    y: float
    event: TimelineEvent
    delivery: TimelineDelivery | None = None


@dataclass(frozen=True)
class _Layout:
    rows: Sequence[_Row]
    names: Sequence[float]
    bottom: float


def _laid_out(events: Sequence[TimelineEvent]) -> _Layout:
    """Compute the y position of each row and of the apps' names."""
    rows, names, y = [], [18.0], float(_HEAD)
    for event in events:
        if y - names[-1] > _NAMES_AGAIN:
            names.append(y + _HEAD)
            y += _HEAD + 12
        y += _EVENT_ROW
        rows.append(_Row(y, event))
        for delivery in event.deliveries:
            y += _ROW
            rows.append(_Row(y, event, delivery))
    return _Layout(rows, names, y + 12)


def _apps(events: Sequence[TimelineEvent]) -> list[str]:
    """Return the apps in the order of their first row."""
    found: dict[str, None] = {}
    for event in events:
        found.setdefault(app_of(event.name))
        for delivery in event.deliveries:
            found.setdefault(app_of(delivery.handler))
    return list(found)


def app_of(name: str) -> str:
    """Return the app of an event or a handler."""
    return name.partition(".")[0]


def short(name: str) -> str:
    """Return an event's or a handler's name without its app."""
    return name.partition(".")[2] or name


@dataclass(frozen=True)
class _Drawing:
    columns: dict[str, int]
    column: int
    width: int
    layout: _Layout
    address: Address
    when: Callable[[TimelineEvent], str]

    def lifelines(self) -> Iterator[SafeString]:
        bottom = self.layout.bottom
        for x in self.columns.values():
            yield svg.element("line", x1=x, y1=28, x2=x, y2=bottom, class_="outbox-gridline")
        for y in self.layout.names:
            for app, x in self.columns.items():
                yield svg.text(app, x=x, y=y, class_="outbox-app-name", anchor="middle")

    def rows(self) -> Iterator[SafeString]:
        for row in self.layout.rows:
            if row.delivery:
                yield self._delivery(row, row.delivery, row.y)
            else:
                yield self._event(row, row.y)

    def _event(self, row: _Row, y: float) -> SafeString:
        x, event = self.columns[app_of(row.event.name)], row.event
        dot = svg.element("circle", cx=x, cy=y - 4, r=4.5, class_="outbox-dot")
        name, when = short(event.name), f" {self.when(event)}"
        place, anchor = self._beside(x, 10, svg.text_width(name + when, size=12))
        named = svg.element(
            "text",
            svg.element("tspan", name, class_="outbox-event-name"),
            svg.element("tspan", when, class_="outbox-faint"),
            x=place,
            y=y,
            text_anchor=anchor,
        )
        shape = svg.element("g", dot, named)
        return svg.link(shape, href=self.address(event), tip=event.name)

    def _delivery(self, row: _Row, delivery: TimelineDelivery, y: float) -> SafeString:
        start = self.columns[app_of(row.event.name)]
        end = self.columns[app_of(delivery.handler)]
        arrow = self._loop(start, y) if start == end else self._straight(start, end, y)
        shape = svg.element("g", *arrow, self._label(delivery, start, end, y))
        shape = svg.element("g", shape, class_=f"outbox-arrow outbox-{delivery.state}")
        texts = [delivery.why, *(one.text for one in delivery.settlements)]
        tip = ": ".join(filter(None, [delivery.handler, "; ".join(filter(None, texts))]))
        return svg.link(shape, href=self.address(delivery), tip=tip)

    def _straight(self, start: float, end: float, y: float) -> list[SafeString]:
        way = 1 if end > start else -1
        ends = {"x1": start, "y1": y, "x2": end - 7 * way, "y2": y}
        return [svg.element("line", **ends, class_="outbox-arrow-line"), _head(end, y, way)]

    def _loop(self, x: float, y: float) -> list[SafeString]:
        path = f"M {x} {y - 6} h {_LOOP} v 8 h {7 - _LOOP}"
        return [svg.element("path", d=path, class_="outbox-arrow-line"), _head(x, y + 2, -1)]

    def _label(self, delivery: TimelineDelivery, start: float, end: float, y: float) -> SafeString:
        words = short(delivery.handler) + _remark(delivery)
        long = svg.text_width(words)
        if start == end:
            x, anchor = self._beside(start, _LOOP + 6, long)
            return svg.text(words, x=x, y=y, class_="outbox-words", anchor=anchor or "")
        way = 1 if end > start else -1
        # Beside the arrow's head, so that a short text crosses no other lifeline.
        x = end - way * self.column / 2
        x = max(min(x, self.width - long / 2), long / 2)
        return svg.text(words, x=x, y=y - 4, class_="outbox-words", anchor="middle")

    def _beside(self, x: float, distance: float, long: float) -> tuple[float, str | None]:
        """Return the place and the anchor of a text beside a lifeline: at its left at the edge."""
        if x + distance + long > self.width and x - 10 - long > 0:
            return x - 10, "end"
        return min(x + distance, max(self.width - long, 0)), None


def _remark(delivery: TimelineDelivery) -> str:
    if delivery.state == "done":
        return f" ({delivery.attempts}\N{MULTIPLICATION SIGN})" if delivery.attempts > 1 else ""
    text = ngettext("%(state)s, %(n)d attempt", "%(state)s, %(n)d attempts", delivery.attempts)
    facts = {"state": _(delivery.state), "n": delivery.attempts}
    return f" ({text % facts})" if delivery.attempts else f" ({facts['state']})"


def _head(x: float, y: float, way: int) -> SafeString:
    points = f"{x},{y} {x - 8 * way},{y - 4} {x - 8 * way},{y + 4}"
    return svg.element("polygon", points=points, class_="outbox-head")


def mermaid(events: Sequence[TimelineEvent]) -> str:
    """Return a timeline as a Mermaid `sequenceDiagram` (https://mermaid.js.org/syntax/).

    It has only names, states and numbers, and no payload. So it may be published.
    """
    return "\n".join(["sequenceDiagram", *_mermaid_lines(events)]) + "\n"


def _mermaid_lines(events: Sequence[TimelineEvent]) -> Iterator[str]:
    for event in events:
        app = app_of(event.name)
        if not event.deliveries:
            yield f"    Note over {app}: {short(event.name)}"
        for delivery in event.deliveries:
            arrow = _MERMAID_ARROWS.get(delivery.state, "--)")
            words = f"{short(event.name)} ({short(delivery.handler)}{_plain_remark(delivery)})"
            yield f"    {app}{arrow}{app_of(delivery.handler)}: {words}"


def _plain_remark(delivery: TimelineDelivery) -> str:
    retried = f", {delivery.attempts} attempts" if delivery.attempts > 1 else ""
    return retried if delivery.state == "done" else f"{retried}, {delivery.state}"
