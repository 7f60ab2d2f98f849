"""Prune events that are older than a month: `python -m benchmarks.probes.pruning`."""

from __future__ import annotations

import time
from datetime import timedelta

import django

from benchmarks.probes import print_json


def main() -> None:
    """Prune until nothing is left."""
    django.setup()
    from outbox import operations

    began = time.monotonic()
    removed = operations.prune(older_than=timedelta(days=30))
    print_json({"removed": removed, "seconds": time.monotonic() - began})


if __name__ == "__main__":
    main()
