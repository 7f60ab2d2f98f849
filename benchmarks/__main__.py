"""Measure the outbox and its alternatives: `python -m benchmarks [--quick]`.

Everything runs on one PostgreSQL with durable defaults and a broker, started for it and stopped
afterwards. If a row fails, its error is printed, the other rows run, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence

from . import machine, page, report, sizes
from .ground import Ground
from .report import Outcome
from .row import Row
from .rows import all_rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print Markdown; return the exit code.

    A run of all rows also writes `results/latest.json`, the processor's file in
    `results/processors`, and its part of `docs/performance.md`. Until it has ended, and for a run
    of some rows, the results are in `results/part.json`. With `--update`, a run of some rows
    replaces these rows in the results of the last run of all rows on such a processor.
    """
    rows = {row.name: row for row in all_rows()}
    options = _options(arguments, list(rows))
    chosen = [row for row in rows.values() if not row.is_extra]
    if options.only:
        chosen = [rows[name] for name in options.only]
    if options.size:
        os.environ[sizes.VARIABLE] = str(options.size)
    if options.rounds:
        os.environ[sizes.ROUNDS] = str(options.rounds)
    if options.minutes:
        os.environ[sizes.MINUTES] = str(options.minutes)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all servers are stopped
    machine.adopt_orphans()
    facts = machine.facts()
    print("# Benchmarks\n\n" + "\n".join(f"* {name}: {fact}" for name, fact in facts.items()))
    if machine.is_busy():
        print(
            "\n**Other programs use this machine.** Then do not compare rows of several processes."
        )
    outcomes: list[Outcome] = []
    with Ground() as ground:
        facts["database"] = str(ground.execute("SELECT version()")[0][0])
        for outcome in measured(chosen, ground, quick=options.quick):
            print(report.section(outcome), flush=True)
            outcomes.append(outcome)
            report.write(outcomes, machine=facts, quick=options.quick, path=report.PART)
    if options.update:
        report.update()
    elif not options.only:
        report.keep()
    if options.update or not options.only:
        page.write()
    print(report.summary(outcomes))
    print(report.last_line(outcomes))
    return exit_code(outcomes)


def measured(rows: Iterable[Row], ground: Ground, *, quick: bool) -> Iterator[Outcome]:
    """Measure row by row; if one fails, yield its failure, and measure the next one."""
    for row in rows:
        began, result, error = time.monotonic(), None, ""
        load = machine.ForeignLoad()
        try:
            result = row.measure(ground, quick)
        except Exception as caught:  # the other rows are measured in any case
            traceback.print_exc()
            error = f"{type(caught).__name__}: {str(caught)[:1000]}"
        yield Outcome(row, time.monotonic() - began, result, error, foreign=load.cores())


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """Return 1 if a row failed. A target that was missed is a finding, and no failure."""
    return 1 if any(outcome.result is None for outcome in outcomes) else 0


def _options(arguments: Sequence[str] | None, names: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller, within five minutes")
    parser.add_argument("--size", type=int, help="settled events in the tables of growth")
    parser.add_argument("--rounds", type=int, help="repeats of each side, instead of a row's own")
    parser.add_argument("--minutes", type=int, help="duration of the rows ten_minutes and hour")
    parser.add_argument(
        "--update", action="store_true", help="put the rows of --only into the last results"
    )
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", help=", ".join(names))
    options = parser.parse_args(arguments)
    if options.update and (options.quick or not options.only):
        parser.error("--update needs --only, and is not for a quick run.")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Stopped. The results until then are in benchmarks/results/part.json.")
