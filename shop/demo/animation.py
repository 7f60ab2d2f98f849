"""Draw deliveries over time as an animated SVG, which needs no script and no font."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from outbox.monitor.timeline import TimelineDelivery, TimelineEvent

#: Pixels.
WIDTH, LABELS, ROW, TOP, MARGIN = 960, 270, 24, 64, 24
PLOT = WIDTH - LABELS - MARGIN
#: Seconds of one round of the animation, and the part of it in which time passes.
ROUND, MOVING = 14, 70
#: Widths of ticks of the axis, in seconds. The first that gives at most ten is used.
TICKS = (1, 2, 5, 10, 30, 60)

STYLE = f"""\
text {{ font: 12px system-ui, sans-serif; fill: #1f2933 }}
.title {{ font-weight: 600; font-size: 15px }} .small {{ fill: #52606d; font-size: 11px }}
.waits {{ fill: #cbd2d9 }} .done {{ fill: #2f8f5b }} .died {{ fill: url(#hatch) }}
.kill {{ stroke: #b3261e; stroke-width: 2; stroke-dasharray: 5 3 }} .red {{ fill: #b3261e }}
.cover {{ fill: #ffffff; animation: uncover {ROUND}s linear infinite }}
@keyframes uncover {{ 0% {{ transform: translateX(0) }} {MOVING}%, 100% {{ transform: \
translateX({PLOT + MARGIN}px) }} }}
@media (prefers-reduced-motion: reduce) {{ .cover {{ display: none }} }}
"""
HATCH = (
    '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect width="6" height="6" fill="#f3c1bd"/>'
    '<rect width="3" height="6" fill="#b3261e"/></pattern>'
)


@dataclass(frozen=True, kw_only=True, order=True)
class Span:
    """A part of a delivery's life: it `waits`, its worker `died`, or it is `done`."""

    start: datetime
    end: datetime
    kind: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """A delivery with its spans, the earliest first."""

    label: str
    spans: Sequence[Span]


def rows_of(events: Sequence[TimelineEvent], *, leave_out: Sequence[str] = ()) -> list[Row]:
    """Return a row for each settled delivery, in the order of their first start."""
    rows = [
        Row(label=delivery.handler, spans=_spans(event, delivery))
        for event in events
        for delivery in event.deliveries
        if delivery.settled_at and not delivery.handler.startswith(tuple(leave_out))
    ]
    return sorted(rows, key=lambda row: (row.spans[0].end, row.label))


def _spans(event: TimelineEvent, delivery: TimelineDelivery) -> list[Span]:
    """Return waits and runs of a delivery, from the emission of its event to its end."""
    runs = [
        Span(start=failure.started_at, end=failure.ended_at, kind="died")
        for failure in delivery.failures
    ]
    if delivery.started_at and delivery.settled_at:
        runs.append(Span(start=delivery.started_at, end=delivery.settled_at, kind="done"))
    spans, since = [], event.emitted_at
    for run in sorted(runs):
        spans += [Span(start=since, end=run.start, kind="waits"), run]
        since = run.end
    return spans


def svg(rows: Sequence[Row], *, title: str, end: str, killed_at: datetime) -> str:
    """Return the picture of these rows. The last line is `end`."""
    began = min(row.spans[0].start for row in rows)
    seconds = (max(row.spans[-1].end for row in rows) - began).total_seconds()
    scale = PLOT / max(seconds, 0.1)
    bottom = TOP + ROW * len(rows)
    parts = [
        *_axis(seconds, scale, bottom),
        *(part for number, row in enumerate(rows) for part in _bars(number, row, began, scale)),
        *_kill((killed_at - began).total_seconds() * scale, bottom),
        f'<rect class="cover" x="{LABELS}" y="{TOP - 22}" width="{PLOT + MARGIN}" '
        f'height="{bottom - TOP + 46}"/>',
        *(_label(number, row) for number, row in enumerate(rows)),
        _text(MARGIN, 28, title, "title"),
        _text(MARGIN, bottom + 44, f"Grey: waits. Red: the worker died. Green: done. End: {end}."),
    ]
    return _document(parts, height=bottom + 60, title=title)


def _document(parts: Sequence[str], *, height: int, title: str) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n<defs>{HATCH}</defs>\n"
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _axis(seconds: float, scale: float, bottom: int) -> Iterator[str]:
    step = next((one for one in TICKS if seconds / one <= 10), TICKS[-1])
    for tick in range(0, int(seconds) + 1, step):
        x = LABELS + tick * scale
        yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#e4e7eb"/>'
        yield _text(x, bottom + 16, f"{tick} s", "small")


def _bars(number: int, row: Row, began: datetime, scale: float) -> Iterator[str]:
    y = TOP + ROW * number
    for span in row.spans:
        x = LABELS + (span.start - began).total_seconds() * scale
        width = max(
            (span.end - span.start).total_seconds() * scale, 0 if span.kind == "waits" else 3
        )
        height, offset = (4, 10) if span.kind == "waits" else (14, 5)
        yield (
            f'<rect class="{span.kind}" x="{x:.1f}" y="{y + offset}" width="{width:.1f}" '
            f'height="{height}"/>'
        )


def _kill(x: float, bottom: int) -> Iterator[str]:
    at = LABELS + x
    yield f'<line class="kill" x1="{at:.1f}" y1="{TOP - 6}" x2="{at:.1f}" y2="{bottom}"/>'
    yield _text(at + 4, TOP - 8, "the worker is killed (SIGKILL)", "red")


def _label(number: int, row: Row) -> str:
    return _text(MARGIN, TOP + ROW * number + 16, row.label)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}>{escape(text)}</text>'
