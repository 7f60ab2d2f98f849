"""Places of the cells of a layered graph: each near its neighbours, and none over another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from .layers import Cell, Layered

#: Sweeps over all layers, alternately from left and from right.
_SWEEPS = 6


def heights(graph: Layered, *, size: Callable[[Cell], float]) -> dict[Cell, float]:
    """Return the middle of each cell in pixels from the top edge.

    A cell stands at the mean of its neighbours if it can. The order of each layer is kept.

    Args:
        graph: in its final order.
        size: returns the height of a cell, with its distance to the next one.
    """
    found: dict[Cell, float] = {}
    for row in graph.rows:
        for cell, top in zip(row, _stacked(row, size), strict=True):
            found[cell] = top
    near = _neighbours(graph)
    for sweep in range(_SWEEPS):
        for row in graph.rows if sweep % 2 == 0 else reversed(graph.rows):
            wanted = [_mean([found[one] for one in near[cell]], found[cell]) for cell in row]
            found.update(zip(row, _spread(wanted, _stacked(row, size)), strict=True))
    highest = min((found[cell] - size(cell) / 2 for cell in found), default=0.0)
    return {cell: place - highest for cell, place in found.items()}


def _stacked(row: Sequence[Cell], size: Callable[[Cell], float]) -> list[float]:
    """Return the middles of the cells of a layer that stand as close as possible."""
    places, bottom = [], 0.0
    for cell in row:
        places.append(bottom + size(cell) / 2)
        bottom += size(cell)
    return places


def _neighbours(graph: Layered) -> Mapping[Cell, list[Cell]]:
    near: dict[Cell, list[Cell]] = defaultdict(list)
    for way in graph.ways.values():
        for a, b in pairwise(way):
            near[a].append(b)
            near[b].append(a)
    return near


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _spread(wanted: Sequence[float], stacked: Sequence[float]) -> list[float]:
    """Return the places nearest to the wanted ones that keep the order and the distances.

    Nearest by least squares. Without the distances, that is isotonic regression, by pooling
    adjacent violators: M. Ayer et al., "An Empirical Distribution Function for Sampling with
    Incomplete Information" (1955).
    """
    pools: list[tuple[float, int]] = []
    for want, least in zip(wanted, stacked, strict=True):
        mean, number = want - least, 1
        while pools and pools[-1][0] > mean:
            before, others = pools.pop()
            mean = (mean * number + before * others) / (number + others)
            number += others
        pools.append((mean, number))
    moved = [mean for mean, number in pools for _ in range(number)]
    return [least + by for least, by in zip(stacked, moved, strict=True)]
