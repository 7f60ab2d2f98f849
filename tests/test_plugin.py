from __future__ import annotations

import subprocess
import sys

_START_A_CHILD = """
import os, signal, subprocess, sys
from tests.plugin import handle_ignored_signals

handle_ignored_signals()
for number in (signal.SIGINT, signal.SIGHUP):
    os.kill(os.getpid(), number)
subprocess.run([sys.executable, "-c", "import signal; print(*map(signal.getsignal, (1, 2)))"])
"""


class TestASuiteStartedUnderNohup:
    def test_starts_programs_that_both_signals_end(self):
        """Failed in seven tests: a child inherits an ignored signal, so SIGINT did not end it."""
        shell = """trap '' INT HUP; exec "$0" -c "$1" """

        done = subprocess.run(
            ["sh", "-c", shell, sys.executable, _START_A_CHILD], capture_output=True, text=True
        )

        assert done.stderr == ""
        assert done.stdout.split() == ["0", "<built-in", "function", "default_int_handler>"]
