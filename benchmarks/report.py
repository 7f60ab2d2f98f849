"""Markdown for people, `results/*.json` and a last line for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .harness import Ratio, Result
from .row import Row

RESULTS = Path(__file__).parent / "results"
LATEST, PART = RESULTS / "latest.json", RESULTS / "part.json"

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


@dataclass(frozen=True)
class Outcome:
    """A row and what came of it: a result, or why there is none."""

    row: Row
    seconds: float
    result: Result | None = None
    error: str = ""

    @property
    def ratios(self) -> Sequence[Ratio]:
        return self.result.ratios if self.result else ()


def section(outcome: Outcome) -> str:
    """Return one row's part: its figures and notes, or its error."""
    head = (
        f"\n## {outcome.row.name}: {outcome.row.title}\n\n"
        f"Target: {outcome.row.target}. Measured in {outcome.seconds:.0f} s.\n"
    )
    if outcome.result is None:
        return f"{head}\n**FAILED**: {outcome.error}\n"
    lines = ["| | median | repeats |", "| --- | --- | --- |"]
    for figure in outcome.result.figures:
        repeats = " ".join(number(value) for value in figure.values)
        lines.append(f"| {figure.name} | {number(figure.median)} {figure.unit} | {repeats} |")
    notes = "".join(f"\n{note}\n" for note in outcome.result.notes)
    return "\n".join([head, *lines, "", _ratio_table(outcome.ratios), notes])


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the table of all ratios, each with its target and whether it reaches it."""
    ratios = [ratio for outcome in outcomes for ratio in outcome.ratios]
    aims = [ratio for ratio in ratios if ratio.target]
    missed = sum(not ratio.is_reached for ratio in aims)
    failed = [outcome.row.name for outcome in outcomes if outcome.result is None]
    said = f"{len(aims) - missed} of {len(aims)} targets reached, {missed} missed."
    if failed:
        said += f" Rows that failed: {', '.join(failed)}."
    return f"\n## All ratios\n\n{_ratio_table(ratios)}\n\n{said}\n"


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


def _row(outcome: Outcome) -> dict[str, object]:
    facts: dict[str, object] = {"target": outcome.row.target, "seconds": round(outcome.seconds, 1)}
    if outcome.result is None:
        return {**facts, "error": outcome.error}
    return {**facts, **asdict(outcome.result)}


def _values(outcomes: Sequence[Outcome]) -> dict[str, float]:
    return {r.key: round(r.value, 3) for outcome in outcomes for r in outcome.ratios}


def _ratio_table(ratios: Sequence[Ratio]) -> str:
    lines = ["| ratio | measured | target | |", "| --- | --- | --- | --- |"]
    for ratio in ratios:
        verdict = "" if not ratio.target else "reached" if ratio.is_reached else "**MISSED**"
        lines.append(f"| `{ratio.key}` | {number(ratio.value)} | {ratio.target} | {verdict} |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Return a figure as people read it."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
