"""The number of stored events: `--size`, or the default of each row."""

from __future__ import annotations

import os

VARIABLE = "BENCHMARK_SIZE"


def chosen(default: int) -> int:
    """Return the number of events that was asked for."""
    return int(os.environ.get(VARIABLE) or default)
