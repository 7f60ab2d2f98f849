"""How much is stored: `--size`, else what each row takes by itself."""

from __future__ import annotations

import os

VARIABLE = "BENCHMARK_SIZE"


def chosen(default: int) -> int:
    """Return the number of events that was asked for."""
    return int(os.environ.get(VARIABLE) or default)
