"""Charts of the simulation for the documentation, as SVG files that need no style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from outbox.drawing.chart import Series, chart

_STYLE = """<style>
text { font: 11px sans-serif; fill: #57606a; }
.outbox-gridline { stroke: #d0d7de; fill: none; }
.outbox-series { fill: none; stroke: #0969da; stroke-width: 2; }
.outbox-dashed { stroke-dasharray: 5 4; }
.outbox-tone-bad { stroke: #cf222e; }
.outbox-tip { fill: none; }
</style>"""


def write(
    path: Path, rows: Sequence[Series], *, times: Sequence[str], label: str, unit: str = ""
) -> None:
    """Write one chart.

    Args:
        rows: the series, each with as many values as there are times.
        times: labels of the horizontal axis.
        label: description for screen readers.
        unit: of the values, for the axis.
    """
    drawn = chart(rows, times=times, label=label, format_value=f"{{:,.4g}}{unit}".format)
    head, end, rest = str(drawn).partition(">")
    if "xmlns=" not in head:
        head += ' xmlns="http://www.w3.org/2000/svg"'
    white = '<rect width="100%" height="100%" fill="#ffffff"/>'
    path.write_text(f"{head}{end}{_STYLE}{white}{rest}\n")
