"""The number of stored events (`--size`) and of repeats (`--rounds`), or a row's default."""

from __future__ import annotations

import os

VARIABLE, ROUNDS = "BENCHMARK_SIZE", "BENCHMARK_ROUNDS"


def chosen(default: int) -> int:
    """Return the number of events that was asked for."""
    return int(os.environ.get(VARIABLE) or default)


def rounds(default: int) -> int:
    """Return the number of repeats that was asked for."""
    return int(os.environ.get(ROUNDS) or default)
