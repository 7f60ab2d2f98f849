"""`make mutants`: take each safety part away, and see that its tests notice.

First the tests run without a mutant: a test that fails then could notice nothing. The last line
is "N killed, N survived". Exit 0 only if none survived.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.databases import postgresql_url
from tests.mutants.mutant import POSTGRESQL, Mutant
from tests.mutants.table import MUTANTS
from tests.mutants.trial import Outcome, Verdict, baseline, try_mutant


def main() -> int:
    options = _options()
    mutants = [one for one in MUTANTS if not options.only or one.name in options.only]
    if options.list:
        for one in mutants:
            print(f"{one.name:30} {one.database:10} {one.without}")
        return 0
    if any(one.database == POSTGRESQL for one in mutants):
        postgresql_url()  # one server for all, before threads ask for it
    if failing := _failing(mutants):
        print("These tests fail without a mutant, so they detect none:", *failing, sep="\n  ")
        return 2
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = [_shown(outcome) for outcome in pool.map(try_mutant, mutants)]
    killed = sum(outcome.verdict is Verdict.KILLED for outcome in outcomes)
    print(f"\n{killed} killed, {len(outcomes) - killed} survived")
    return 0 if killed == len(outcomes) else 1


def _failing(mutants: Sequence[Mutant]) -> list[str]:
    """Run the tests of all mutants once for each database, without a mutant."""
    failing: list[str] = []
    for database in sorted({one.database for one in mutants}):
        mine = (one for one in mutants if one.database == database)
        tests = {test for one in mine for test in one.noticed_by}
        print(f"{len(tests)} tests on {database} without a mutant ...", flush=True)
        found, tail = baseline(tests, database=database)
        failing += [*found, tail] if found else []
    return failing


def _shown(outcome: Outcome) -> Outcome:
    mutant, seconds = outcome.mutant, f"{outcome.seconds:5.1f} s"
    print(f"{outcome.verdict:9} {seconds}  {mutant.name:30} {mutant.without}", flush=True)
    if outcome.why:
        print(f"          {outcome.why}", flush=True)
    return outcome


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", choices=_names(MUTANTS))
    parser.add_argument("--list", action="store_true", help="list the mutants, and run nothing")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default 2)")
    return parser.parse_args()


def _names(mutants: Iterable[Mutant]) -> list[str]:
    return [one.name for one in mutants]


if __name__ == "__main__":
    sys.exit(main())
