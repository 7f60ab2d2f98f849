"""Charts of values over time: lines and bars, small enough for a phone.

A series has a shape as well as a colour: solid lines, dashed lines, or bars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, log10

from django.utils.safestring import SafeString

from . import svg

_WIDTH = 360.0
_HEIGHT = 170.0
# A label of the axis, such as "1 min 40 s", needs the left margin.
_LEFT, _RIGHT, _TOP, _BOTTOM = 72.0, 6.0, 26.0, 20.0
_LEGEND = 118.0


@dataclass(frozen=True)
class Series:
    """One series of values.

    Attributes:
        name: for the legend.
        values: one for each step of time; None for no value.
        shape: "line", "dashed" or "bars".
        tone: "good", "plain" or "bad".
    """

    name: str
    values: Sequence[float | None]
    shape: str = "line"
    tone: str = "plain"


def chart(
    rows: Sequence[Series],
    *,
    times: Sequence[str],
    label: str,
    format_value: Callable[[float], str] = "{:,.0f}".format,
    min_top: float = 2.0,
) -> SafeString:
    """Draw series over the same steps of time.

    Args:
        rows: the series, each with as many values as there are times.
        times: label of each step; the first, middle and last are drawn below the chart.
        label: description for screen readers.
        format_value: formats a value.
        min_top: minimum of the scale's upper end.
    """
    highest = max((value or 0.0 for row in rows for value in row.values), default=0.0)
    top = _round_up(max(highest, min_top))
    drawing = _Chart(rows, times, top, format_value)
    return svg.picture(
        *drawing.ground(),
        *drawing.series(),
        *drawing.legend(),
        *drawing.tips(),
        width=_WIDTH,
        height=_HEIGHT,
        label=label,
    )


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 4, 6, 10, 20, ...: from 2 on, the half of each is an integer."""
    unit = 10.0 ** (ceil(log10(value)) - 1)
    return next((unit * step for step in (1, 2, 4, 6) if unit * step >= value), unit * 10)


@dataclass(frozen=True)
class _Chart:
    rows: Sequence[Series]
    times: Sequence[str]
    top: float
    format_value: Callable[[float], str]

    def ground(self) -> Iterator[SafeString]:
        for value in (0.0, self.top / 2, self.top):
            y = self._y(value)
            yield svg.element(
                "path", d=f"M {_LEFT} {y:.6g} H {_WIDTH - _RIGHT}", class_="outbox-gridline"
            )
            text = self.format_value(value)
            yield svg.text(text, x=_LEFT - 6, y=y + 4, class_="outbox-faint", anchor="end")
        last = len(self.times) - 1
        marks = ((0, "start"), (last // 2, "middle"), (last, "end"))
        for step, anchor in marks if last > 0 else ():
            x = self._x(step) + {"start": -0.5, "middle": 0.0, "end": 0.5}[anchor] * self._step
            text = self.times[step]
            yield svg.text(text, x=x, y=_HEIGHT - 4, class_="outbox-faint", anchor=anchor)

    def series(self) -> Iterator[SafeString]:
        for row in sorted(self.rows, key=lambda row: row.shape != "bars"):
            kind = f"outbox-series outbox-{row.shape} outbox-tone-{row.tone}"
            path = self._bars(row) if row.shape == "bars" else self._line(row)
            if path:
                yield svg.element("path", d=path, class_=kind)

    def legend(self) -> Iterator[SafeString]:
        for number, row in enumerate(self.rows):
            x = _LEFT + number * _LEGEND
            kind = f"outbox-series outbox-{row.shape} outbox-tone-{row.tone}"
            bar = f"M {x} 6 H {x + 10} V 16 H {x} Z"
            line = f"M {x} 11 H {x + 18}"
            yield svg.element("path", d=bar if row.shape == "bars" else line, class_=kind)
            yield svg.text(row.name, x=x + 23, y=15, class_="outbox-faint")

    def tips(self) -> Iterator[SafeString]:
        """Draw a tooltip with the values of each step."""
        for step, time in enumerate(self.times):
            values = [
                f"{row.name}: {self.format_value(value)}"
                for row in self.rows
                if (value := row.values[step]) is not None
            ]
            yield svg.element(
                "rect",
                svg.element("title", "\n".join([time, *values])),
                x=self._x(step) - self._step / 2,
                y=_TOP,
                width=self._step,
                height=_HEIGHT - _TOP - _BOTTOM,
                class_="outbox-tip",
            )

    @property
    def _step(self) -> float:
        return (_WIDTH - _LEFT - _RIGHT) / max(len(self.times), 1)

    def _x(self, step: int) -> float:
        return _LEFT + (step + 0.5) * self._step

    def _y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - value / self.top * (_HEIGHT - _TOP - _BOTTOM)

    def _line(self, row: Series) -> str:
        parts, is_drawn = [], False
        for step, value in enumerate(row.values):
            if value is not None:
                # A single step between two gaps is drawn as a short dash.
                begin = f"L {self._x(step):.6g}" if is_drawn else f"M {self._x(step) - 2:.6g}"
                parts.append(f"{begin} {self._y(value):.6g}")
                parts += [] if is_drawn else [f"H {self._x(step):.6g}"]
            is_drawn = value is not None
        return " ".join(parts)

    def _bars(self, row: Series) -> str:
        wide = self._step * 0.7
        return " ".join(
            f"M {self._x(step) - wide / 2:.6g} {self._y(0):.6g} V {self._y(value):.6g} "
            f"h {wide:.6g} V {self._y(0):.6g} Z"
            for step, value in enumerate(row.values)
            if value
        )
