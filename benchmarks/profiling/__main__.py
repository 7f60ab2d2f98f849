"""Profile the outbox: `python -m benchmarks.profiling [RUN ...]`; see `scenes` for the runs.

Draws a flame graph of each run into `docs/images`, and writes the shares of packages and the
processor time per event into `docs/performance.md`. py-spy must be allowed to read the memory of
other processes: on macOS, and where ptrace is restricted, that needs root.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.ground import Ground

from .flames import drawn
from .sampling import shares
from .scenes import SCENES

RESULTS = Path(__file__).parents[1] / "results" / "profile.json"
IMAGES = page.PAGE.parent / "images"
_LABELS = {
    "drain": "Flame graph of relay and worker during a drain",
    "stream": "Flame graph of relay and worker at 20 orders per second",
    "stream_without_broker": "Flame graph of `outbox work` at 20 orders per second",
    "order": "Flame graph of a web process that accepts orders",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile, draw and write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description=__doc__)
    parser.add_argument("scenes", nargs="*", choices=[[], *SCENES], metavar="RUN")
    chosen = parser.parse_args(arguments).scenes or list(SCENES)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with Ground() as ground:
        for name in chosen:
            found = SCENES[name](ground)
            known[name] = {
                "events": found.events,
                "microseconds": found.microseconds,
                "shares": shares(found.stacks),
            }
            (IMAGES / f"flame-{name}.svg").write_text(drawn(found.stacks, label=_LABELS[name]))
    known = {name: known[name] for name in SCENES if name in known}
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    page.replace(page.PAGE, {"profile": "\n".join(table(known))})
    print("\n".join(table(known)))
    return 0


def table(known: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the page's table."""
    yield "| run | processor time per event or order | the Python processes' time by package |"
    yield "| --- | --- | --- |"
    for name, one in known.items():
        spent = ", ".join(f"{who} {value:,.0f} µs" for who, value in one["microseconds"].items())
        parts = (f"{what} {share:.0%}" for what, share in one["shares"].items() if share >= 0.01)
        yield f"| `{name}` | {spent} | {', '.join(parts)} |"


if __name__ == "__main__":
    sys.exit(main())
