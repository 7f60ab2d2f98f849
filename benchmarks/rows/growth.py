"""Growth: the duration of each kind of work with a short history, and with a long one."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from benchmarks.ground import CEILING, Ground, Stage
from benchmarks.harness import Figure, Ratio, Result, in_turn, median, ratio
from benchmarks.row import Row
from benchmarks.sides import TUNED, Side
from benchmarks.sizes import chosen

#: Enough for queries of the newest some thousand rows.
SHORT = 20_000

WATCHED = Side("outbox, with its admin", "benchmarks.project.watched", TUNED)


def measure(ground: Ground, quick: bool) -> Result:
    """Fill two databases, then work in both in turn."""
    size, repeats = (200_000, 3) if quick else (chosen(1_000_000), 5)
    with ground.stage(WATCHED) as short, ground.stage(WATCHED) as long:
        _fill(short, SHORT)
        seconds = _fill(long, size)
        ground.settle()
        days = {"short": iter(range(0, 100, 2)), "long": iter(range(0, 100, 2))}
        sides = {
            "short": lambda: _work(short, next(days["short"])),
            "long": lambda: _work(long, next(days["long"])),
        }
        found = in_turn(sides, repeats=repeats, warm_ups=1)
    return _result(found, size=size, seconds=seconds)


def _fill(stage: Stage, events: int) -> float:
    ceiling = CEILING * max(1.0, events / 1_000_000)
    return float(stage.call("benchmarks.probes.filling", events, ceiling=ceiling))


def _work(stage: Stage, day: int) -> dict[str, Any]:
    found: dict[str, Any] = stage.call("benchmarks.probes.growth", day)
    return found


def _result(found: dict[str, list[dict[str, Any]]], *, size: int, seconds: float) -> Result:
    times = {side: _by_work(repeats) for side, repeats in found.items()}
    grown = {work: ratio(times["long"][work], times["short"][work]) for work in times["long"]}
    figures = [
        Figure(f"{work}, {side}", values, "ms")
        for work in grown
        for side, values in ((side, times[side][work]) for side in times)
    ]
    scans = {scan for repeat in found["long"] for scan in repeat["scans"]}
    rows = {side: _rows(repeats) for side, repeats in found.items()}
    figures += [
        Figure(f"{work}, long", values, "rows read") for work, values in rows["long"].items()
    ]
    more = [_more(rows["long"][work], rows["short"][work]) for work in rows["long"]]
    worst = max(grown, key=lambda work: grown[work])
    return Result(
        figures,
        [
            *(Ratio(f"growth of {work}", value, at_most=1.2) for work, value in grown.items()),
            Ratio("growth_worst", grown[worst], at_most=1.2),
            Ratio("growth of the rows read", max(more), at_most=1.2),
            Ratio("statements that read a table from end to end", len(scans), at_most=0),
        ],
        [
            f"Long: {size:,} settled events and {3 * size:,} receipts, stored in {seconds:.0f} s; "
            f"short: {SHORT:,}. The worst: {worst}.",
            *scans,
        ],
    )


def _by_work(repeats: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the quickest of each repeat, by the kind of work: all above it is others' doing."""
    found: dict[str, list[float]] = defaultdict(list)
    for repeat in repeats:
        for work, values in repeat["milliseconds"].items():
            found[work].append(min(values))
    return found


def _rows(repeats: list[dict[str, Any]]) -> dict[str, list[float]]:
    return {work: [float(one["rows"][work]) for one in repeats] for work in repeats[0]["rows"]}


def _more(long: list[float], short: list[float]) -> float:
    """Return how many times as many were read, where it may be none."""
    return (median(long) + 1) / (median(short) + 1)


ROW = Row(
    "growth",
    "relay pass, emit, delivery, status, overview page and prune, beside a long history",
    "within 1.2 of the durations with a short history; no plan reads settled rows",
    measure,
)
