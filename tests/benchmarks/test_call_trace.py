"""The number of functions and files of `outbox` on the path of one order."""

from __future__ import annotations

import re
import subprocess
import sys

from django.conf import settings

#: As measured. Lower them when the path gets shorter. Ranges of events (decision 99) took 3 and 1.
MOST_FUNCTIONS, MOST_FILES = 188, 42


class TestTheCallTrace:
    def test_of_an_order_is_no_longer_than_measured(self):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.call_trace"],
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
            check=True,
        )

        *_, last = done.stdout.splitlines()
        found = re.fullmatch(r"(\d+) functions in (\d+) files", last)
        assert found is not None, last
        assert int(found[1]) <= MOST_FUNCTIONS, done.stdout
        assert int(found[2]) <= MOST_FILES, done.stdout
