"""The result of a row, and the arithmetic of all rows.

Figures are medians of repeats. Sides that are compared are measured in turn, A B A B, so that a
machine that gets slower slows both. A ratio is made of figures of one run, never of two.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from . import sizes

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
    """A figure as a multiple of another one of the same run, and its target.

    Attributes:
        key: its name in the JSON.
        value: the ratio; of several pairs, their median.
        at_least, at_most: the target; at most one of them is given.
        pairs: the ratio of each pair, if it was computed from pairs.
    """

    key: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    pairs: Sequence[float] = ()

    @classmethod
    def of(
        cls,
        key: str,
        ours: Sequence[float],
        theirs: Sequence[float],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> Ratio:
        """Compare repeat 1 with repeat 1, and so on.

        Raises:
            ValueError: the numbers of repeats differ.
        """
        found = pairs(ours, theirs)
        return cls(key, median(found), at_least=at_least, at_most=at_most, pairs=found)

    @classmethod
    def worst_of(
        cls,
        key: str,
        sides: Iterable[tuple[Sequence[float], Sequence[float]]],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> Ratio:
        """Compare several sides as `of` does; return the ratio that is the worst for the target.

        Args:
            key: its name in the JSON.
            sides: the repeats of ours and theirs of each comparison.
            at_least, at_most: the target. With `at_least` the lowest ratio is the worst.

        Raises:
            ValueError: the numbers of repeats of a comparison differ.
        """
        made = [cls.of(key, *one, at_least=at_least, at_most=at_most) for one in sides]
        worst = max if at_least is None else min
        return worst(made, key=lambda one: one.value)

    @property
    def spread(self) -> str:
        """Lowest and highest pair, and their number; "" without pairs."""
        if len(self.pairs) < 2:
            return ""
        return f"{min(self.pairs):.3g} to {max(self.pairs):.3g}, {len(self.pairs)} pairs"

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
    """The result of a row. `notes` are sentences for the reader."""

    figures: Sequence[Figure]
    ratios: Sequence[Ratio]
    notes: Sequence[str] = field(default_factory=tuple)


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def percentile(values: Sequence[float], part: int) -> float:
    """Return the value that `part` percent of the values do not exceed, by linear interpolation."""
    return float(statistics.quantiles(values, n=100, method="inclusive")[part - 1])


def pairs(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of each pair: repeat 1 to repeat 1, and so on.

    Raises:
        ValueError: the numbers of repeats differ.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} repeats against {len(theirs)}: they are no pairs.")
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the pairs' ratios; see `pairs`."""
    return median(pairs(ours, theirs))


def in_turn(
    sides: Mapping[str, Callable[[], T]], *, repeats: int, warm_ups: int = 0
) -> dict[str, list[T]]:
    """Measure each side once, in order, and again: A B A B. Warm-ups are run and thrown away.

    Args:
        repeats: number of repeats, unless `--rounds` is given.
    """
    found: dict[str, list[T]] = {name: [] for name in sides}
    for round_ in range(warm_ups + sizes.rounds(repeats)):
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
