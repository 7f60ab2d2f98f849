"""Flame graphs: a box for each function, as wide as its share of the samples, above its caller.

Source: B. Gregg, "The Flame Graph", Communications of the ACM 59(6), 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from outbox.drawing import svg

from .sampling import Stacks

WIDTH, ROW, SIZE = 1200.0, 17.0, 11.0
#: Narrower boxes are left out.
NARROWEST = 3.0
_COLOURS = ("#f6c177", "#eb9a6c", "#e0b05c", "#f2a65a")


@dataclass
class _Box:
    name: str
    samples: int = 0
    above: dict[str, _Box] = field(default_factory=dict)


def drawn(stacks: Stacks, *, label: str) -> str:
    """Return the flame graph as SVG.

    Args:
        stacks: at least one sample.
        label: description for screen readers.
    """
    root = _Box("all")
    for stack, number in stacks.items():
        box = root
        box.samples += number
        for frame in stack:
            box = box.above.setdefault(frame, _Box(frame))
            box.samples += number
    boxes = list(_placed(root, left=0.0, level=0, scale=WIDTH / root.samples))
    height = (max(level for _, _, _, level in boxes) + 1) * ROW
    parts = [
        _element(box, left, width, height - (level + 1) * ROW, root.samples)
        for box, left, width, level in boxes
    ]
    style = svg.element("style", f"text {{ font: {SIZE:g}px monospace; }}")
    return str(svg.picture(style, *parts, width=WIDTH, height=height, label=label)) + "\n"


def _placed(
    box: _Box, *, left: float, level: int, scale: float
) -> Iterator[tuple[_Box, float, float, int]]:
    width = box.samples * scale
    if width < NARROWEST:
        return
    yield box, left, width, level
    for one in sorted(box.above.values(), key=lambda one: one.name):
        yield from _placed(one, left=left, level=level + 1, scale=scale)
        left += one.samples * scale


def _element(box: _Box, left: float, width: float, top: float, total: int) -> str:
    # A name that py-spy read while it changed may contain characters that XML forbids.
    name = "".join(letter if letter.isprintable() else "?" for letter in box.name)
    share = f"{name}: {box.samples / total:.1%} of the samples"
    colour = _COLOURS[sum(map(ord, name)) % len(_COLOURS)]
    rect = svg.element(
        "rect", x=left, y=top, width=max(width - 0.5, 0.5), height=ROW - 1, fill=colour
    )
    letters = int((width - 6) / (SIZE * 0.62))
    short = name if len(name) <= letters else name[: max(letters - 1, 0)] + "…"
    words = [svg.text(short, x=left + 3, y=top + ROW - 5)] if letters > 3 else []
    return svg.element("g", svg.element("title", share), rect, *words)
