"""What a row finds, and the arithmetic that all rows share.

Figures are medians of repeats; what is compared is measured in turn, A B A B, so that a machine
that gets slower meanwhile slows both; a ratio is made of figures of one run, never of two.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


class WrongEffects(Exception):
    """A side had fewer effects than events, or more; whatever it measured does not count."""


@dataclass(frozen=True)
class Figure:
    """One measured thing: the median of its repeats, and the repeats."""

    name: str
    values: Sequence[float]
    unit: str

    @property
    def median(self) -> float:
        return median(self.values)


@dataclass(frozen=True)
class Ratio:
    """A figure as a part or a multiple of another one of the same run, and what it has to be.

    `key` is its name in the JSON; exactly one of `at_least` and `at_most` is the target, or none.
    """

    key: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_reached(self) -> bool:
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.at_most is None or self.value <= self.at_most

    @property
    def target(self) -> str:
        """The target in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return "" if self.at_most is None else f"at most {self.at_most:g}"


@dataclass(frozen=True)
class Result:
    """What a row found. `notes` are sentences for the reader."""

    figures: Sequence[Figure]
    ratios: Sequence[Ratio]
    notes: Sequence[str] = field(default_factory=tuple)


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def percentile(values: Sequence[float], part: int) -> float:
    """Return the value that `part` percent of the values do not exceed, by linear interpolation."""
    return float(statistics.quantiles(values, n=100, method="inclusive")[part - 1])


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios pair by pair: repeat 1 against repeat 1, and so on."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} repeats against {len(theirs)}: they are no pairs.")
    return median([one / other for one, other in zip(ours, theirs, strict=True)])


def in_turn(
    sides: Mapping[str, Callable[[], T]], *, repeats: int, warm_ups: int = 0
) -> dict[str, list[T]]:
    """Measure each side once, in order, and again: A B A B. Warm-ups are run and thrown away."""
    found: dict[str, list[T]] = {name: [] for name in sides}
    for round_ in range(warm_ups + repeats):
        for name, measure in sides.items():
            value = measure()
            if round_ >= warm_ups:
                found[name].append(value)
    return found


def require_effects(*, expected: int, effects: int, distinct: int, who: str) -> None:
    """Raise `WrongEffects` unless each event has exactly one effect."""
    if effects == distinct == expected:
        return
    raise WrongEffects(
        f"{who}: {expected} events, {distinct} of them have an effect, {effects} effects in all."
    )
