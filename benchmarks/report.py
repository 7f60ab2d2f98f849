"""Markdown for people, `results/*.json` and a last line for machines."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .harness import Ratio, Result
from .row import Row

RESULTS = Path(__file__).parent / "results"
LATEST, PART = RESULTS / "latest.json", RESULTS / "part.json"
#: The latest full run on each processor.
PROCESSORS = RESULTS / "processors"

#: The last line's keys, in order. One that was not measured is null.
KEYS = (
    "relay_vs_raw",
    "relay_vs_best_peer",
    "drain_vs_celery",
    "sustained_vs_celery",
    "latency_p50_vs_celery",
    "latency_p99_vs_celery",
    "latency_p50_vs_best_peer",
    "chain_vs_hop",
    "emit_vs_insert",
    "post_vs_plain",
    "post_p99_broker_down",
    "growth_worst",
    "wal_vs_raw",
)


#: Verdicts. A row beside programs that use more cores than this is not reliable.
REACHED, MISSED, UNRELIABLE = "reached", "**missed**", "not reliable"
MOST_FOREIGN = 0.2


@dataclass(frozen=True)
class Outcome:
    """A row, and its result or its error.

    Attributes:
        foreign: cores that other programs used meanwhile, on average.
    """

    row: Row
    seconds: float
    result: Result | None = None
    error: str = ""
    foreign: float = 0.0

    @property
    def ratios(self) -> Sequence[Ratio]:
        return self.result.ratios if self.result else ()


def section(outcome: Outcome) -> str:
    """Return one row's part: its figures and notes, or its error."""
    head = (
        f"\n## {outcome.row.name}: {outcome.row.title}\n\n"
        f"Target: {outcome.row.target}. Measured in {outcome.seconds:.0f} s. "
        f"Other programs used {outcome.foreign:.2f} cores.\n"
    )
    if outcome.result is None:
        return f"{head}\n**FAILED**: {outcome.error}\n"
    lines = ["| | median | repeats |", "| --- | --- | --- |"]
    for figure in outcome.result.figures:
        repeats = " ".join(number(value) for value in figure.values)
        lines.append(f"| {figure.name} | {number(figure.median)} {figure.unit} | {repeats} |")
    notes = "".join(f"\n{note}\n" for note in outcome.result.notes)
    return "\n".join([head, *lines, "", _ratio_table([outcome]), notes])


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the table of all ratios, each with its target and whether it reaches it."""
    found = [
        verdict(ratio, foreign=outcome.foreign)
        for outcome in outcomes
        for ratio in outcome.ratios
        if ratio.target
    ]
    failed = [outcome.row.name for outcome in outcomes if outcome.result is None]
    text = f"{found.count(REACHED)} of {len(found)} targets reached, {found.count(MISSED)} missed."
    if number_of := found.count(UNRELIABLE):
        text += f" {number_of} not reliable: other programs used the machine."
    if failed:
        text += f" Rows that failed: {', '.join(failed)}."
    return f"\n## All ratios\n\n{_ratio_table(outcomes)}\n\n{text}\n"


def verdict(ratio: Ratio, *, foreign: float) -> str:
    """Return whether a target is reached; a miss beside other programs is not reliable.

    Args:
        foreign: cores that other programs used while the row was measured.
    """
    if not ratio.target:
        return ""
    if ratio.is_reached:
        return REACHED
    return UNRELIABLE if foreign > MOST_FOREIGN else MISSED


def last_line(outcomes: Sequence[Outcome]) -> str:
    """Return the JSON object of exactly the agreed keys."""
    found = _values(outcomes)
    return json.dumps({key: found.get(key) for key in KEYS})


def write(
    outcomes: Sequence[Outcome], *, machine: Mapping[str, str], quick: bool, path: Path
) -> None:
    """Write everything that was measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {
        "machine": dict(machine),
        "quick": quick,
        **json.loads(last_line(outcomes)),
        "rows": {outcome.row.name: _row(outcome) for outcome in outcomes},
    }
    path.write_text(json.dumps(known, indent=2) + "\n")


def keep() -> None:
    """Make the run in `PART` the latest run, and that of its processor."""
    PART.replace(LATEST)
    _keep_of_processor()


def update() -> None:
    """Replace rows of the last run of all rows on this processor by those in `PART`.

    Raises:
        ValueError: no such run is stored.
    """
    latest, part = (json.loads(path.read_text()) for path in (LATEST, PART))
    processor, when = part["machine"]["processor"], part["machine"]["when"]
    path = LATEST if latest["machine"]["processor"] == processor else _of_processor(processor)
    if not path.exists():
        raise ValueError(f"No run of all rows on {processor} is stored. Run all rows first.")
    found: dict[str, Any] = json.loads(path.read_text())
    found["rows"] |= {name: {**row, "when": when} for name, row in part["rows"].items()}
    found |= {key: part[key] for key in KEYS if part[key] is not None}
    path.write_text(json.dumps(found, indent=2) + "\n")
    if path == LATEST:
        _keep_of_processor()


def _keep_of_processor() -> None:
    found: dict[str, Any] = json.loads(LATEST.read_text())
    PROCESSORS.mkdir(exist_ok=True)
    shutil.copyfile(LATEST, _of_processor(found["machine"]["processor"]))


def _of_processor(processor: str) -> Path:
    name = re.sub(r"[^a-z0-9]+", "-", processor.lower()).strip("-")
    return PROCESSORS / f"{name}.json"


def _row(outcome: Outcome) -> dict[str, object]:
    facts: dict[str, object] = {
        "target": outcome.row.target,
        "seconds": round(outcome.seconds, 1),
        "foreign": round(outcome.foreign, 2),
    }
    if outcome.result is None:
        return {**facts, "error": outcome.error}
    return {**facts, **asdict(outcome.result)}


def _values(outcomes: Sequence[Outcome]) -> dict[str, float]:
    return {r.key: round(r.value, 3) for outcome in outcomes for r in outcome.ratios}


def _ratio_table(outcomes: Sequence[Outcome]) -> str:
    lines = [
        "| ratio | measured | lowest to highest | target | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for outcome in outcomes:
        for one in outcome.ratios:
            end = verdict(one, foreign=outcome.foreign)
            cells = f"{number(one.value)} | {one.spread} | {one.target} | {end}"
            lines.append(f"| `{one.key}` | {cells} |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Return a figure as people read it."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
