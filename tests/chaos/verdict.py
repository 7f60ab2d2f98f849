"""What both kinds of run share: the wait for the backlog, the verdict, and the last lines."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.checker import Finding
from tests.chaos.registry import Faults
from tests.chaos.schedule import Act, Kind

OWED = """
SELECT (SELECT count(*) FROM outbox_event WHERE fanned_out_at IS NULL)
     + (SELECT count(*) FROM outbox_delivery
        WHERE state IN ('pending', 'sent', 'blocked', 'parked'))
"""


@dataclass
class Verdict:
    """The result of a run."""

    findings: list[Finding] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        return not self.findings and not self.troubles

    def counts(self) -> dict[str, int]:
        """Return the number of the findings that the last line names."""
        kinds = Counter(finding.kind for finding in self.findings)
        return {kind: kinds[kind] for kind in ("lost", "duplicated", "out_of_order")}


def say(*lines: object) -> None:
    print(*lines, sep="\n", flush=True)


def chosen_kinds(faults: Faults, options: argparse.Namespace) -> dict[str, Kind] | None:
    """Return the faults that the options name. None: one is unknown, and an error is printed."""
    try:
        return faults.chosen(options.faults, database=options.database)
    except KeyError as unknown:
        known = ", ".join([*faults.groups, *faults.by_name])
        print(f"There is no fault {unknown}. There are: {known}.", file=sys.stderr)
        return None


def wait_until_settled(
    left: Callable[[], int], is_settled: Callable[[], bool], *, stall: float
) -> list[str]:
    """Wait until the backlog is settled. Report it if it has not shrunk for `stall` seconds."""
    least, end = math.inf, time.monotonic() + stall
    while not is_settled():
        if (number := left()) < least:
            least, end = number, time.monotonic() + stall
        if time.monotonic() > end:
            return [f"Not settled: {number} are left, and it was no less for {stall:.0f} s."]
        time.sleep(0.2)
    return []


def conclude(
    verdict: Verdict,
    options: argparse.Namespace,
    acts: Sequence[Act],
    *,
    folder: Path,
    named: Sequence[str],
    result: Mapping[str, Any],
) -> int:
    """Print the last line, and before it how to repeat a failed run; return the exit code.

    Args:
        verdict: the result.
        options: the options of the run.
        acts: its schedule.
        folder: its folder, which is removed after a good run without --keep.
        named: names of the options that a repetition needs, beside duration, seed and rate.
        result: the values of the last line.
    """
    if not verdict.is_well:
        say("FAILED. The schedule was:", *acts)
        say(*verdict.troubles, *verdict.findings[:50])
        say(f'Again: make chaos ARGS="{_again(options, named)}"', f"Logs and records: {folder}")
    elif not options.keep:
        shutil.rmtree(folder)
    print(json.dumps(result), flush=True)
    return 0 if verdict.is_well else 1


def _again(options: argparse.Namespace, named: Sequence[str]) -> str:
    again = [f"--seconds {options.seconds:g} --seed {options.seed} --rate {options.rate:g}"]
    again[:0] = [f"--{name}" for name in ("edges", "cluster") if getattr(options, name)]
    given = {name: getattr(options, name) for name in named if getattr(options, name)}
    again += [f"--{name}" if one is True else f"--{name} {one}" for name, one in given.items()]
    return " ".join(again)
