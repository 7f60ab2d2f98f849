"""A map of events and handlers: causes left of their effects.

A line leads from an event to each subscribed handler, and from a handler to each event that it
emits. An event without a handler and a handler without a declared event have a special mark. A
handler with a problem has a red box, a cross and a word.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from . import svg
from .layers import Cell, Layered, layered
from .network import Arrow, Emission, Network
from .places import heights
from .sequence import app_of, short

__all__ = ["Arrow", "Emission", "Network", "network_map"]

_BOX = 38
_GAP = 10
_BEND = 12
_BETWEEN = 76
_MARGIN = 6
_LEAST_WIDTH = 110
#: Lowest rates, in events a minute, of the widths of lines above the thinnest.
RATES = (0.05, 1.0, 10.0, 100.0)

_EVENT, _HANDLER = "event ", "handler "
Line = Arrow | Emission
#: The end of a line: x, y, and 1 for a head to the right, -1 to the left.
_Head = tuple[float, float, int]


def network_map(
    network: Network,
    *,
    event_address: Callable[[str], str] = lambda _name: "",
    handler_address: Callable[[str], str] = lambda _name: "",
    app_address: Callable[[str], str] = lambda _app: "",
) -> SafeString:
    """Draw the map. The functions return the URLs of boxes and of the apps in them, or ""."""
    drawing = _Drawing(network, arranged(network), event_address, handler_address, app_address)
    return svg.picture(
        *drawing.lines(),
        *drawing.boxes(),
        width=drawing.width,
        height=drawing.height,
        label=_("Map: the handlers of each event"),
    )


def arranged(network: Network) -> Layered:
    """Return the layers of a network, with few crossings of lines."""
    nodes = [_EVENT + name for name in sorted(network.events)]
    second = [_HANDLER + name for name in sorted(network.handlers)]
    edges = [_edge(line) for line in _lines(network)]
    return layered([*nodes, *second], edges, second=second)


def _lines(network: Network) -> list[Line]:
    return [*network.arrows, *network.emissions]


def _edge(line: Line) -> tuple[str, str]:
    event, handler = _EVENT + line.event, _HANDLER + line.handler
    return (event, handler) if isinstance(line, Arrow) else (handler, event)


class _Drawing:
    def __init__(
        self,
        network: Network,
        graph: Layered,
        event_address: Callable[[str], str],
        handler_address: Callable[[str], str],
        app_address: Callable[[str], str],
    ) -> None:
        self._network, self._graph, self._app_address = network, graph, app_address
        self._addresses = {_EVENT: event_address, _HANDLER: handler_address}
        self._unmatched = {
            *(_EVENT + name for name in network.events_without_handler),
            *(_HANDLER + name for name in network.handlers_without_event),
        }
        self._layers = {cell: number for number, row in enumerate(graph.rows) for cell in row}
        self._middles = heights(graph, size=_size)
        self._left, self._wide = self._columns(graph.rows)

    @property
    def width(self) -> float:
        """The width in pixels."""
        return (self._left[-1] + self._wide[-1] if self._left else 0) + _MARGIN

    @property
    def height(self) -> float:
        """The height in pixels."""
        bottoms = [middle + _size(cell) / 2 for cell, middle in self._middles.items()]
        return max(bottoms, default=0.0) + 2 * _MARGIN

    def lines(self) -> Iterator[SafeString]:
        """Draw the subscriptions, then the emissions, then the notes of subscriptions."""
        # Lines to one box end at one place, so equal notes are drawn once.
        notes: dict[tuple[float, float], dict[str, None]] = {}
        for line in _lines(self._network):
            edge = _edge(line)
            if edge in self._graph.ways:
                path, head = self._path(self._graph.ways[edge], edge in self._graph.reversed)
                yield self._line(line, path, head)
                if isinstance(line, Arrow) and line.note:
                    notes.setdefault(head[:2], {})[line.note] = None
        for (x, y), words in notes.items():
            text = " · ".join(words)
            yield svg.text(text, x=x - 12, y=y - 6, class_="outbox-words", anchor="end")

    def boxes(self) -> Iterator[SafeString]:
        """Draw the events and handlers."""
        for cell, layer in self._layers.items():
            if isinstance(cell, str):
                yield self._box(cell, layer)

    def _columns(self, rows: Sequence[Sequence[Cell]]) -> tuple[list[float], list[float]]:
        """Return the left edge and the width of each layer: its longest text."""
        wide = [
            max((self._need(cell) for cell in row if isinstance(cell, str)), default=_LEAST_WIDTH)
            for row in rows
        ]
        left, edge = [], float(_MARGIN)
        for width in wide:
            left.append(edge)
            edge += width + _BETWEEN
        return left, wide

    def _need(self, node: str) -> float:
        above, words = self._words(node)
        longest = max(svg.text_width(above), svg.text_width(words))
        return max(longest + 18, _LEAST_WIDTH)

    def _words(self, node: str) -> tuple[str, str]:
        """Return the two lines of a box: app and problem, name and rate."""
        kind, name = _kind(node), node[len(_kind(node)) :]
        problem = self._network.problems.get(name, "") if kind == _HANDLER else ""
        note = self._network.notes.get(name, "") if kind == _EVENT else ""
        mark = "△ " if node in self._unmatched else ""
        above = " ".join(filter(None, [app_of(name), f"✕ {problem}" if problem else ""]))
        return above, " · ".join(filter(None, [mark + short(name), note]))

    def _line(self, line: Line, path: str, head: _Head) -> SafeString:
        x, y, turn = head
        points = f"{x},{y} {x - 9 * turn},{y - 4.5} {x - 9 * turn},{y + 4.5}"
        level = bisect_left(RATES, line.rate + 1e-9)
        drawn = [
            svg.element("path", d=path, class_=f"outbox-arrow-line outbox-rate-{level}"),
            svg.element("polygon", points=points, class_="outbox-head"),
        ]
        note = line.note if isinstance(line, Arrow) else ""
        a, b = _edge(line)
        names = f"{a.partition(' ')[2]} → {b.partition(' ')[2]}"
        tip = svg.element("title", f"{names} {note}".strip())
        return svg.element("g", tip, *drawn, class_=f"outbox-arrow {self._kind_of(line)}")

    def _kind_of(self, line: Line) -> str:
        if isinstance(line, Emission):
            return "outbox-emission"
        if line.is_held:
            return "outbox-parked"
        return "outbox-dead" if line.handler in self._network.problems else "outbox-done"

    def _path(self, way: Sequence[Cell], is_back: bool) -> tuple[str, _Head]:
        """Return a curve through all cells of a way, and its end with the head."""
        layer = self._layers[way[0]]
        x, y = self._left[layer] + self._wide[layer], self._middles[way[0]]
        first, parts = (x, y), [f"M {x:.6g} {y:.6g}"]
        for number, cell in enumerate(way[1:], layer + 1):
            end, b = self._left[number], self._middles[cell]
            bend = (end - x) / 2
            parts.append(f"C {x + bend:.6g} {y:.6g} {end - bend:.6g} {b:.6g} {end:.6g} {b:.6g}")
            x, y = end, b
            if not isinstance(cell, str):
                x += self._wide[number]
                parts.append(f"H {x:.6g}")
        return " ".join(parts), (*first, -1) if is_back else (x, y, 1)

    def _box(self, node: str, layer: int) -> SafeString:
        kind = _kind(node)
        name = node[len(kind) :]
        x, y = self._left[layer], self._middles[node] - _BOX / 2
        above, words = self._words(node)
        shape = svg.element(
            "rect",
            x=x,
            y=y,
            width=self._wide[layer],
            height=_BOX,
            rx=4 if kind == _HANDLER else 14,
            class_=" ".join(filter(None, ["outbox-box", self._mark(node, name)])),
        )
        has_problem = self._mark(node, name) == "outbox-failing"
        kinds = "outbox-box-app outbox-box-failing-app" if has_problem else "outbox-box-app"
        app = svg.text(above, x=x + 9, y=y + 15, class_=kinds)
        text = svg.text(words, x=x + 9, y=y + 29, class_="outbox-box-words")
        href = self._addresses[kind](name)
        return svg.element(
            "g",
            svg.link(svg.element("g", shape, text), href=href),
            svg.link(app, href=self._app_address(app_of(name))),
        )

    def _mark(self, node: str, name: str) -> str:
        if node in self._unmatched:
            return "outbox-unmatched"
        has_problem = _kind(node) == _HANDLER and name in self._network.problems
        return "outbox-failing" if has_problem else ""


def _kind(node: str) -> str:
    return _EVENT if node.startswith(_EVENT) else _HANDLER


def _size(cell: Cell) -> float:
    return _BOX + _GAP if isinstance(cell, str) else _BEND
