"""The parts of `docs/performance.md` that a run writes: the latest run on each processor.

    python -m benchmarks.page

writes it again, for a run whose results were brought along.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from . import aims, report, sizing
from .harness import Ratio

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

Found = dict[str, Any]

#: Rows whose figures have a value for each minute, and the end of these figures' names.
LONG_RUNS, BY_MINUTE = ("ten_minutes", "hour"), ", by the minute"
#: A longer table has a line for each fifth minute only.
MOST_LINES, LONG_STEP = 20, 5

#: A generated part is between these two lines, by its name.
BEGIN, END = "<!-- measured: {} -->", "<!-- end of {} -->"


def write(path: Path = PAGE) -> None:
    """Put the figures of the latest run on each processor into the page."""
    replace(path, parts(*results()))


def results() -> list[Found]:
    """Return the latest run, and then those on other processors, the newest first."""
    latest: Found = json.loads(report.LATEST.read_text())
    others: list[Found] = [
        json.loads(path.read_text()) for path in report.PROCESSORS.glob("*.json")
    ]
    others.sort(key=lambda found: str(found["machine"]["when"]), reverse=True)
    known = latest["machine"]["processor"]
    return [latest, *(found for found in others if found["machine"]["processor"] != known)]


def replace(path: Path, written: Mapping[str, str]) -> None:
    """Put parts into a page, each between its two lines.

    Raises:
        ValueError: the page does not have a part's lines. Nothing is written.
    """
    text = path.read_text()
    for name, part in written.items():
        text = _replaced(text, name, part)
    path.write_text(text)


def parts(latest: Found, *others: Found) -> dict[str, str]:
    """Return the generated parts of the page by name.

    Args:
        latest: the latest run.
        others: the latest runs on other processors.
    """
    found = [latest, *others]
    return {
        "ratios": "\n".join([*_machines(found), "", *_ratios(found)]),
        "aims": "\n".join(_aims(found)),
        "figures": "\n".join(_figures(found)),
        "sizing": sizing.table(latest["rows"]),
        "minutes": "\n".join(_long_runs(found)) or "Not measured yet.",
    }


def part_of(text: str, name: str) -> str:
    """Return the text between the two lines of a part."""
    _before, _begin, rest = text.partition(BEGIN.format(name) + "\n")
    return rest.partition("\n" + END.format(name))[0]


def _replaced(text: str, name: str, part: str) -> str:
    before, begin, rest = text.partition(BEGIN.format(name) + "\n")
    _old, end, after = rest.partition("\n" + END.format(name))
    if not (begin and end):
        raise ValueError(f"The page has no part {name!r}.")
    return before + begin + part + end + after


def _machines(found: Sequence[Found]) -> Iterator[str]:
    form = "quick" if found[0]["quick"] else "full"
    yield f"The latest {form} run on each processor:"
    yield ""
    names = [_processor(one) for one in found]
    yield _line(["", *names])
    yield _line(["---"] * (len(names) + 1))
    for fact in found[0]["machine"]:
        if fact != "processor":
            yield _line([fact, *(one["machine"].get(fact, "") for one in found)])


def _processor(found: Found) -> str:
    return str(found["machine"]["processor"])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ratios(found: Sequence[Found]) -> Iterator[str]:
    columns = [_ratios_of(one["rows"]) for one in found]
    yield _line(["row", "", *(_processor(one) for one in found), "target"])
    yield _line(["---"] * (len(found) + 3))
    for key in dict.fromkeys(key for column in columns for key in column):
        shown = [column.get(key, ("", "")) for column in columns]
        target = next(target for measured, target in shown if measured)
        yield _line([*key, *(measured for measured, _target in shown), target])


def _ratios_of(rows: Mapping[str, Any]) -> dict[tuple[str, str], tuple[str, str]]:
    """Return the measured ratio and its target, by row and key."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for name, row in rows.items():
        if "error" in row:
            found[name, "failed"] = (report.MISSED, row["target"])
        for given in row.get("ratios", []):
            one = Ratio(**given)
            verdict = report.verdict(one, foreign=row.get("foreign", 0.0))
            spread = f" ({one.spread})" if one.spread else ""
            measured = f"{report.number(one.value)}{spread}{verdict and f', {verdict}'}"
            found[name, f"`{one.key}`"] = (measured, one.target)
    return found


def _aims(found: Sequence[Found]) -> Iterator[str]:
    yield _line(["figure", "aim", *(_processor(one) for one in found)])
    yield _line(["---"] * (len(found) + 2))
    for cells in aims.lines(found):
        yield _line(cells)


def _figures(found: Sequence[Found]) -> Iterator[str]:
    columns = [_figures_of(one["rows"]) for one in found]
    yield _line(["row", "what", *(_processor(one) for one in found)])
    yield _line(["---"] * (len(found) + 2))
    for key in dict.fromkeys(key for column in columns for key in column):
        yield _line([*key, *(column.get(key, "") for column in columns)])


def _figures_of(rows: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return the median of each figure with its unit, by row and name."""
    return {
        (name, one["name"]): f"{report.number(median(one['values']))} {one['unit']}".strip()
        for name, row in rows.items()
        if name not in LONG_RUNS
        for one in row.get("figures", [])
    }


def _long_runs(found: Sequence[Found]) -> Iterator[str]:
    """Yield a table for each long run, with a line for each minute or each fifth one."""
    for one in found:
        for name in LONG_RUNS:
            if figures := one["rows"].get(name, {}).get("figures"):
                yield from _by_minute(f"`{name}`, {_processor(one)}", one["rows"][name], figures)


def _by_minute(
    title: str, row: Mapping[str, Any], figures: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    yield " ".join([f"{title}.", *row["notes"]])
    yield ""
    names = [one["name"].removesuffix(BY_MINUTE) for one in figures]
    units = [f", {one['unit']}" if one["unit"] else "" for one in figures]
    yield _line(["minute", *map("".join, zip(names, units, strict=True))])
    yield _line(["---"] * (len(names) + 1))
    last = max(len(one["values"]) for one in figures) - 1
    for minute in range(0, last + 1, 1 if last <= MOST_LINES else LONG_STEP):
        yield _line([str(minute), *(_value(one["values"], minute, last) for one in figures)])
    yield ""


def _value(values: Sequence[float], minute: int, last: int) -> str:
    """Return the sample at a minute's end, or the figure of the minute; "" before the first."""
    place = minute - (last + 1 - len(values))
    return report.number(values[place]) if place >= 0 else ""


if __name__ == "__main__":
    write()
