"""Run the shop's reconciliation, `manage.py reconcile --json`."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.chaos.stack import CEILING, ROOT, Stack


def reconcile(stack: Stack, *, ceiling: float = CEILING) -> tuple[bool, list[str]]:
    """Return whether all invariants hold, and the output of the command if not.

    Args:
        stack: has the database.
        ceiling: seconds; reaching it is a failure, not a measurement.
    """
    done = subprocess.run(
        [sys.executable, "manage.py", "reconcile", "--json", "--all"],
        cwd=ROOT,
        env=os.environ | stack.environment,
        capture_output=True,
        text=True,
        timeout=ceiling,
    )
    is_balanced = done.returncode == 0
    return is_balanced, [] if is_balanced else [done.stdout + done.stderr]
