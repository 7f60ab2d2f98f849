"""Sizes that `--size`, `--rounds` and `--minutes` choose instead of a row's own."""

from __future__ import annotations

import os

VARIABLE, ROUNDS, MINUTES = "BENCHMARK_SIZE", "BENCHMARK_ROUNDS", "BENCHMARK_MINUTES"


def chosen(default: int) -> int:
    """Return the number of events that was asked for."""
    return int(os.environ.get(VARIABLE) or default)


def rounds(default: int) -> int:
    """Return the number of repeats that was asked for."""
    return int(os.environ.get(ROUNDS) or default)


def minutes(default: int) -> int:
    """Return the duration that was asked for."""
    return int(os.environ.get(MINUTES) or default)
