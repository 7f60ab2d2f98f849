"""Convert the tables into partitions: `python -m benchmarks.probes.partitioning`."""

from __future__ import annotations

import time
from itertools import pairwise

import django

from benchmarks.probes import print_json


def main() -> None:
    """Convert, and print the seconds of each step."""
    django.setup()
    from outbox.partitions.conversion import convert

    steps: list[tuple[str, float]] = []
    convert(using="default", report=lambda text: steps.append((text, time.monotonic())))
    steps.append(("", time.monotonic()))
    taken = {text: end - began for (text, began), (_, end) in pairwise(steps)}
    print_json({"seconds": steps[-1][1] - steps[0][1], "steps": taken})


if __name__ == "__main__":
    main()
