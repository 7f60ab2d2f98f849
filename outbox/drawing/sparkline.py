"""A sparkline: what was done in each of the last minutes as bars upwards, what failed downwards.

Up and down distinguish the two without colour. A sentence has the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from . import svg

_STEP = 4
_UP, _DOWN = 20, 10
#: A bar for one delivery is visible beside one for a thousand.
_LEAST = 1.5


def sparkline(minutes: Sequence[tuple[int, int]]) -> SafeString:
    """Draw numbers of done and of failed attempts, one pair a minute, oldest first."""
    width = _STEP * len(minutes)
    most_done = max((done for done, _failed in minutes), default=0)
    most_failed = max((failed for _done, failed in minutes), default=0)
    base = svg.element("path", d=f"M 0 {_UP} H {width}", class_="outbox-gridline")
    up = _bars([done for done, _failed in minutes], most_done, -_UP)
    down = _bars([failed for _done, failed in minutes], most_failed, _DOWN)
    return svg.element(
        "svg",
        base,
        svg.element("path", d=" ".join(up), class_="outbox-series outbox-bars outbox-tone-good"),
        svg.element("path", d=" ".join(down), class_="outbox-series outbox-bars outbox-tone-bad"),
        class_="outbox-sparkline",
        width=width,
        height=_UP + _DOWN,
        viewBox=f"0 0 {width} {_UP + _DOWN}",
        role="img",
        aria_label=summary(minutes),
    )


def summary(minutes: Sequence[tuple[int, int]]) -> str:
    """Return the numbers in a sentence."""
    done, failed = sum(one for one, _failed in minutes), sum(one for _done, one in minutes)
    facts = {
        "minutes": len(minutes),
        "done": done,
        "most": max((one for one, _failed in minutes), default=0),
        "failed": failed,
    }
    return (
        _("Last %(minutes)d minutes: %(done)d done, at most %(most)d a minute; %(failed)d failed.")
        % facts
    )


def _bars(values: Sequence[int], most: int, length: float) -> Iterator[str]:
    sign = 1 if length > 0 else -1
    for number, value in enumerate(values):
        if value:
            height = max(abs(length) * value / most, _LEAST) * sign
            yield f"M {_STEP * number} {_UP} h {_STEP - 1} v {height:.4g} h {1 - _STEP} Z"
