"""The part of `docs/performance.md` that a run writes: all figures, from `results/latest.json`.

    python -m benchmarks.page

writes it again, for a run whose results were brought along.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from . import report, sizing
from .harness import Ratio

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

#: A generated part is between these two lines, by its name.
BEGIN, END = "<!-- measured: {} -->", "<!-- end of {} -->"


def write(path: Path = PAGE) -> None:
    """Put the latest run's figures into the page."""
    replace(path, parts(json.loads(report.LATEST.read_text())))


def replace(path: Path, written: Mapping[str, str]) -> None:
    """Put parts into a page, each between its two lines.

    Raises:
        ValueError: the page does not have a part's lines. Nothing is written.
    """
    text = path.read_text()
    for name, part in written.items():
        text = _replaced(text, name, part)
    path.write_text(text)


def parts(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the generated parts of the page by name."""
    return {
        "ratios": f"{_machine(found)}\n\n" + "\n".join(_ratios(found["rows"])),
        "figures": "\n".join(_figures(found["rows"])),
        "sizing": sizing.table(found["rows"]),
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


def _machine(found: Mapping[str, Any]) -> str:
    form = "quick" if found["quick"] else "full"
    facts = [f"* {name}: {fact}" for name, fact in found["machine"].items()]
    return "\n".join([f"A {form} run:", "", *facts])


def _ratios(rows: Mapping[str, Any]) -> Iterator[str]:
    yield "| row | | measured | lowest to highest | target | |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, row in rows.items():
        if "error" in row:
            yield f"| {name} | failed | | | {row['target']} | {report.MISSED} |"
        for given in row.get("ratios", []):
            one = Ratio(**given)
            verdict = report.verdict(one, foreign=row.get("foreign", 0.0))
            measured = f"{report.number(one.value)} | {one.spread}"
            yield f"| {name} | `{one.key}` | {measured} | {one.target} | {verdict} |"


def _figures(rows: Mapping[str, Any]) -> Iterator[str]:
    yield "| row | what | median |"
    yield "| --- | --- | --- |"
    for name, row in rows.items():
        for one in row.get("figures", []):
            measured = report.number(median(one["values"]))
            yield f"| {name} | {one['name']} | {measured} {one['unit']} |"


if __name__ == "__main__":
    write()
