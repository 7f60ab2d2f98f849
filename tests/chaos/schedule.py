"""The times of the faults: a pure function of the seed, so that a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

#: Seconds between two faults of one lane.
GAPS = {
    "processes": (0.4, 1.6),
    "surroundings": (1.0, 2.5),
    "answers": (0.4, 1.6),
    "hosts": (1.5, 3.0),
    "servers": (2.5, 5.0),
}
#: The first fault waits for the first orders.
START = 1.5


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of fault: its lane, and the bounds of how long it lasts, in seconds."""

    lane: str
    shortest: float = 0.0
    longest: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Act:
    """One fault: `at` and `lasts` in seconds, `pick` what it chooses its victim by."""

    at: float
    lasts: float
    fault: str
    pick: int

    def __str__(self) -> str:
        lasts = f" for {self.lasts:.1f} s" if self.lasts else ""
        return f"{self.at:7.1f} s  {self.fault}{lasts}"


def schedule(
    *,
    seed: int,
    seconds: float,
    kinds: Mapping[str, Kind],
    gaps: Mapping[str, tuple[float, float]] = GAPS,
) -> list[Act]:
    """Lanes of faults side by side, each one after the other.

    Each lane deals its faults like a shuffled deck, so that none is left out for long. None lasts
    beyond the end.
    """
    acts = [
        act
        for lane in gaps
        for act in _lane(random.Random(f"{seed} {lane}"), lane, seconds, kinds, gaps[lane])
    ]
    return sorted(acts, key=lambda act: (act.at, act.fault))


def _lane(
    rng: random.Random,
    lane: str,
    seconds: float,
    kinds: Mapping[str, Kind],
    gap: tuple[float, float],
) -> Iterator[Act]:
    names = sorted(name for name, kind in kinds.items() if kind.lane == lane)
    at = START
    for fault in _deck(rng, names):
        kind = kinds[fault]
        # A short deck is dealt slowly: a worker that is killed each second never works.
        at += rng.uniform(*gap) * max(1.0, 6 / len(names))
        lasts = rng.uniform(kind.shortest, kind.longest)
        if at + lasts > seconds:
            return
        yield Act(at=round(at, 2), lasts=round(lasts, 2), fault=fault, pick=rng.randrange(2**32))
        at += lasts


def _deck(rng: random.Random, names: Sequence[str]) -> Iterator[str]:
    while names:
        yield from rng.sample(names, len(names))
