"""Run the shop's reconciliation, `manage.py reconcile --json`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Set

from tests.chaos.stack import CEILING, ROOT, Stack

#: The invariant that compares the database with another system.
OUTSIDE = "payments.bank_matches_payments"


def reconcile(
    stack: Stack, *, ceiling: float = CEILING, excused: Set[str] = frozenset()
) -> tuple[bool, list[str]]:
    """Return whether all invariants hold, and the output of the command if not.

    Args:
        stack: has the database.
        ceiling: seconds; reaching it is a failure, not a measurement.
        excused: ids of orders, in hexadecimal digits. The bank may differ from the database about
            them, because PostgreSQL has lost rows.
    """
    done = subprocess.run(
        [sys.executable, "manage.py", "reconcile", "--json", "--all"],
        cwd=ROOT,
        env=os.environ | stack.environment,
        capture_output=True,
        text=True,
        timeout=ceiling,
    )
    is_balanced = done.returncode == 0 or (
        done.returncode == 1 and bool(excused) and is_excused(done.stdout, excused)
    )
    return is_balanced, [] if is_balanced else [done.stdout + done.stderr]


def is_excused(report: str, orders: Set[str]) -> bool:
    """Return whether all differences are between the bank and these orders."""
    for invariant in json.loads(report)["invariants"]:
        named = [one["key"].replace("-", "") for one in invariant["difference_examples"]]
        if len(named) < invariant["differences"]:
            return False
        if named and not (invariant["name"] == OUTSIDE and orders.issuperset(named)):
            return False
    return True
