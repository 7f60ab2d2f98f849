"""Layers of a directed graph: causes left of their effects, with few crossings of lines.

The method is that of K. Sugiyama, S. Tagawa and M. Toda, "Methods for Visual Understanding of
Hierarchical System Structures" (IEEE Transactions on Systems, Man, and Cybernetics 11, 2, 1981):
remove cycles, assign layers, order each layer by the barycentre of its neighbours. Layers are those
of the longest path. An edge over several layers has a bend in each of them, so that it takes part
in the order. Ordering starts from the given order, and from random ones if lines cross. Crossings
are counted as inversions, as in W. Barth, P. Mutzel and M. Jünger, "Simple and Efficient Bilayer
Cross Counting" (2004).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

Edge = tuple[str, str]
#: A node, or the bend of an edge in a layer between its ends.
Cell = str | tuple[str, str, int]

#: Sweeps over all layers from the given order; the best order that was seen is kept.
_SWEEPS = 24
#: Sweeps from each random order.
_RANDOM_SWEEPS = 8
#: The number of random orders. A graph of many lines has fewer: orders times lines is limited.
_RANDOM_ORDERS, _ORDERS_TIMES_LINES = 16, 4000
#: Rounds of exchanges at most, after the sweeps.
_ROUNDS = 12


@dataclass(frozen=True)
class Layered:
    """A graph in layers.

    Attributes:
        rows: for each layer from left to right, its cells from top to bottom.
        ways: for each edge its cells from left to right: its ends, and its bends between them.
        reversed: the edges of cycles that are drawn from right to left.
    """

    rows: Sequence[Sequence[Cell]]
    ways: Mapping[Edge, Sequence[Cell]]
    reversed: frozenset[Edge]

    @property
    def crossings(self) -> int:
        """The number of crossings of lines."""
        return _crossings(self.rows, _links(self.ways.values()))


def layered(
    nodes: Sequence[str], edges: Iterable[Edge], *, second: Collection[str] = ()
) -> Layered:
    """Arrange a graph.

    Args:
        nodes: in the order that a layer keeps as far as its lines allow.
        edges: pairs of nodes; an edge from a node to itself is left out.
        second: nodes that stand in the second layer at the earliest.
    """
    known = set(nodes)
    given = dict.fromkeys((a, b) for a, b in edges if a != b and a in known and b in known)
    back = _back_edges(nodes, given)
    forward = {edge: edge[::-1] if edge in back else edge for edge in given}
    layer = _longest_paths({node: int(node in second) for node in nodes}, set(forward.values()))
    ways = {edge: _way(edge, forward[edge], layer) for edge in given}
    rows: list[list[Cell]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in nodes:
        rows[layer[node]].append(node)
    for way in ways.values():
        for cell in way[1:-1]:
            rows[cell[2] if isinstance(cell, tuple) else 0].append(cell)
    return Layered(_ordered(rows, _links(ways.values())), ways, frozenset(back))


def _back_edges(nodes: Sequence[str], edges: Iterable[Edge]) -> set[Edge]:
    """Return edges without which there is no cycle: those to a node of the search's own path."""
    after: dict[str, list[str]] = defaultdict(list)
    is_target = set()
    for a, b in edges:
        after[a].append(b)
        is_target.add(b)
    back: set[Edge] = set()
    open_, done = set[str](), set[str]()
    # Nodes without a cause first: a cycle is then cut where it leads back.
    for start in sorted(nodes, key=lambda node: node in is_target):
        stack = [] if start in done else [(start, iter(after[start]))]
        open_.update(node for node, _rest in stack)
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                open_.discard(node)
                done.add(node)
            elif following in open_:
                back.add((node, following))
            elif following not in done:
                open_.add(following)
                stack.append((following, iter(after[following])))
    return back


def _longest_paths(earliest: Mapping[str, int], edges: set[Edge]) -> dict[str, int]:
    """Return the layer of each node: the length of the longest path to it.

    A node without a cause moves next to its first effect.
    """
    after, before = defaultdict(list), dict.fromkeys(earliest, 0)
    for a, b in edges:
        after[a].append(b)
        before[b] += 1
    layer, ready = dict(earliest), [node for node in earliest if not before[node]]
    roots = [node for node in ready if after[node]]
    while ready:
        node = ready.pop()
        for following in after[node]:
            layer[following] = max(layer[following], layer[node] + 1)
            before[following] -= 1
            if not before[following]:
                ready.append(following)
    for node in roots:
        layer[node] = min(layer[one] for one in after[node]) - 1
    return layer


def _way(edge: Edge, forward: Edge, layer: Mapping[str, int]) -> list[Cell]:
    first, last = forward
    bends = [(*edge, number) for number in range(layer[first] + 1, layer[last])]
    return [first, *bends, last]


def _links(ways: Iterable[Sequence[Cell]]) -> dict[Cell, list[Cell]]:
    """Return for each cell the cells of the next layer that it is connected to."""
    links: dict[Cell, list[Cell]] = defaultdict(list)
    for way in ways:
        for a, b in pairwise(way):
            links[a].append(b)
    return links


def _ordered(rows: list[list[Cell]], right: Mapping[Cell, list[Cell]]) -> list[list[Cell]]:
    """Order each layer. The same graph has the same order each time.

    Sweeps and exchanges end in a local minimum, which depends on the order that they start from.
    """
    left: dict[Cell, list[Cell]] = defaultdict(list)
    for a, others in right.items():
        for b in others:
            left[b].append(a)
    best = _exchanged(_swept(rows, left, right, _SWEEPS), left, right)
    fewest, chance = _crossings(best, right), Random(0)
    lines = sum(map(len, right.values()))
    for _order in range(min(_RANDOM_ORDERS, _ORDERS_TIMES_LINES // lines) if fewest else 0):
        mixed = [chance.sample(row, len(row)) for row in rows]
        found = _exchanged(_swept(mixed, left, right, _RANDOM_SWEEPS), left, right)
        if (crossings := _crossings(found, right)) < fewest:
            best, fewest = found, crossings
    return [_as_given(row, given, left, right) for row, given in zip(best, rows, strict=True)]


def _as_given(
    row: Sequence[Cell],
    given: Sequence[Cell],
    left: Mapping[Cell, list[Cell]],
    right: Mapping[Cell, list[Cell]],
) -> list[Cell]:
    """Put cells of equal neighbours into the given order. That changes no crossing."""

    def neighbours(cell: Cell) -> tuple[frozenset[tuple[Cell, int]], ...]:
        # Two lines may connect the same cells: an event and a handler that also emits it.
        return tuple(frozenset(Counter(near.get(cell, ())).items()) for near in (left, right))

    alike: dict[Any, list[Cell]] = defaultdict(list)
    for cell in reversed(given):
        alike[neighbours(cell)].append(cell)
    return [alike[neighbours(cell)].pop() for cell in row]


def _swept(
    given: list[list[Cell]],
    left: Mapping[Cell, list[Cell]],
    right: Mapping[Cell, list[Cell]],
    sweeps: int,
) -> list[list[Cell]]:
    """Sort each layer by the mean place of its neighbours, alternately from left and from right."""
    rows = [list(row) for row in given]
    best, fewest = [list(row) for row in rows], _crossings(rows, right)
    for sweep in range(sweeps if fewest else 0):
        way = range(1, len(rows)) if sweep % 2 == 0 else range(len(rows) - 2, -1, -1)
        for number in way:
            fixed = rows[number - 1] if sweep % 2 == 0 else rows[number + 1]
            _sort(rows[number], fixed, left if sweep % 2 == 0 else right)
        found = _crossings(rows, right)
        if found < fewest:
            best, fewest = [list(row) for row in rows], found
    return best


def _exchanged(
    rows: list[list[Cell]], left: Mapping[Cell, list[Cell]], right: Mapping[Cell, list[Cell]]
) -> list[list[Cell]]:
    """Exchange cells that are next to each other while that removes crossings.

    From E. Gansner et al., "A Technique for Drawing Directed Graphs" (IEEE TSE 19, 3, 1993).
    """
    places = {cell: place for row in rows for place, cell in enumerate(row)}

    def gain(a: Cell, b: Cell) -> int:
        before = after = 0
        for near in (left, right):
            pairs = [(places[x], places[y]) for x in near.get(a, ()) for y in near.get(b, ())]
            before += sum(x > y for x, y in pairs)
            after += sum(x < y for x, y in pairs)
        return before - after

    for _round in range(_ROUNDS):
        moved = False
        for row in rows:
            for place in range(len(row) - 1):
                a, b = row[place], row[place + 1]
                if gain(a, b) > 0:
                    row[place], row[place + 1] = b, a
                    places[a], places[b] = place + 1, place
                    moved = True
        if not moved:
            break
    return rows


def _sort(row: list[Cell], fixed: Sequence[Cell], near: Mapping[Cell, list[Cell]]) -> None:
    places = {cell: place for place, cell in enumerate(fixed)}
    # A cell without a neighbour keeps its place, as a share of the row's length.
    scale = len(fixed) / max(len(row), 1)
    means = {}
    for place, cell in enumerate(row):
        found = [places[one] for one in near.get(cell, ())]
        means[cell] = sum(found) / len(found) if found else place * scale
    row.sort(key=means.__getitem__)


def _crossings(rows: Sequence[Sequence[Cell]], right: Mapping[Cell, list[Cell]]) -> int:
    """Count pairs of lines between two layers whose ends are in opposite order."""
    number = 0
    for row, following in pairwise(rows):
        places = {cell: place for place, cell in enumerate(following)}
        seen: list[int] = []
        for cell in row:
            ends = sorted(places[one] for one in right.get(cell, ()))
            number += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return number
