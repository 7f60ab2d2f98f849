"""A map of subscriptions: events on the left, handlers on the right.

Both sides are grouped by app. A curve leads from an event to each subscribed handler. An event
without a handler and a handler without a declared event have a special mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from . import svg
from .sequence import app_of, short

_ROW = 22
_GAP = 18
_TOP = 30
_BOX = 230
_BETWEEN = 330
_MARGIN = 4


@dataclass(frozen=True)
class Arrow:
    """A subscription, with a note on it: its rate, or that it is paused."""

    event: str
    handler: str
    note: str = ""
    is_held: bool = False


@dataclass(frozen=True)
class Network:
    """The data of the map.

    Attributes:
        events: names of all events that are declared or subscribed to.
        handlers: pinned names of all handlers.
        arrows: subscriptions.
        notes: text after an event's name, for example its rate.
    """

    events: Sequence[str]
    handlers: Sequence[str]
    arrows: Sequence[Arrow]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def events_without_handler(self) -> list[str]:
        """Events without a subscription."""
        subscribed = {arrow.event for arrow in self.arrows}
        return [name for name in self.events if name not in subscribed]

    @property
    def handlers_without_event(self) -> list[str]:
        """Handlers without a declared event."""
        events = set(self.events)
        subscribed = {arrow.handler for arrow in self.arrows if arrow.event in events}
        return [name for name in self.handlers if name not in subscribed]


def network_map(
    network: Network,
    *,
    event_address: Callable[[str], str] = lambda _name: "",
    handler_address: Callable[[str], str] = lambda _name: "",
) -> SafeString:
    """Draw the map. `event_address` and `handler_address` return the URLs of its boxes, or ""."""
    left, left_end = _places(network.events)
    right, right_end = _places(network.handlers)
    drawing = _Drawing(network, left, right, event_address, handler_address)
    return svg.picture(
        *drawing.curves(),
        *drawing.events(),
        *drawing.handlers(),
        width=2 * _BOX + _BETWEEN + 2 * _MARGIN,
        height=max(left_end, right_end) + _GAP,
        label=_("Map: the handlers of each event"),
    )


def _places(names: Sequence[str]) -> tuple[dict[str, float], float]:
    """Return the y position of each name, grouped by app, and the lower end."""
    places: dict[str, float] = {}
    y, app = float(_TOP - _GAP), ""
    for name in sorted(names):
        if app_of(name) != app:
            app = app_of(name)
            y += _GAP + _ROW
        places[name] = y
        y += _ROW
    return places, y


@dataclass(frozen=True)
class _Drawing:
    network: Network
    left: Mapping[str, float]
    right: Mapping[str, float]
    event_address: Callable[[str], str]
    handler_address: Callable[[str], str]

    def curves(self) -> Iterator[SafeString]:
        begin, end = _MARGIN + _BOX, _MARGIN + _BOX + _BETWEEN
        bend = _BETWEEN / 2
        for arrow in self.network.arrows:
            if arrow.event not in self.left or arrow.handler not in self.right:
                continue
            a, b = self.left[arrow.event], self.right[arrow.handler]
            path = f"M {begin} {a} C {begin + bend} {a} {end - bend} {b} {end - 8} {b}"
            kind = "outbox-arrow outbox-parked" if arrow.is_held else "outbox-arrow outbox-done"
            head = f"{end},{b} {end - 8},{b - 4} {end - 8},{b + 4}"
            drawn = [
                svg.element("path", d=path, class_="outbox-arrow-line"),
                svg.element("polygon", points=head, class_="outbox-head"),
            ]
            if arrow.note:
                drawn.append(
                    svg.text(arrow.note, x=end - 12, y=b - 5, class_="outbox-faint", anchor="end")
                )
            tip = svg.element("title", f"{arrow.event} → {arrow.handler} {arrow.note}".strip())
            yield svg.element("g", tip, *drawn, class_=kind)

    def events(self) -> Iterator[SafeString]:
        unmatched = set(self.network.events_without_handler)
        yield from self._apps(self.left, x=_MARGIN)
        for name, y in self.left.items():
            note = self.network.notes.get(name, "")
            words = " · ".join(filter(None, [short(name), note]))
            href, is_unmatched = self.event_address(name), name in unmatched
            yield self._box(words, x=_MARGIN, y=y, href=href, is_unmatched=is_unmatched)

    def handlers(self) -> Iterator[SafeString]:
        unmatched, x = set(self.network.handlers_without_event), _MARGIN + _BOX + _BETWEEN
        yield from self._apps(self.right, x=x)
        for name, y in self.right.items():
            href = self.handler_address(name)
            yield self._box(short(name), x=x, y=y, href=href, is_unmatched=name in unmatched)

    def _apps(self, places: Mapping[str, float], *, x: float) -> Iterator[SafeString]:
        seen: set[str] = set()
        for name, y in places.items():
            if (app := app_of(name)) not in seen:
                seen.add(app)
                yield svg.text(app, x=x, y=y - _ROW + 5, class_="outbox-app-name")

    def _box(self, words: str, *, x: float, y: float, href: str, is_unmatched: bool) -> SafeString:
        shape = svg.element(
            "rect",
            x=x,
            y=y - _ROW / 2 + 1,
            width=_BOX,
            height=_ROW - 2,
            rx=4,
            class_="outbox-box outbox-unmatched" if is_unmatched else "outbox-box",
        )
        mark = "△ " if is_unmatched else ""
        text = svg.text(f"{mark}{words}", x=x + 8, y=y + 4, class_="outbox-box-words")
        return svg.link(svg.element("g", shape, text), href=href)
