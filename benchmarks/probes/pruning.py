"""Prune events that are older than a month: `python -m benchmarks.probes.pruning`."""

from __future__ import annotations

from datetime import timedelta

import django

from benchmarks.probes import print_json


def main() -> None:
    """Prune until nothing is left."""
    django.setup()
    from outbox import operations

    print_json(operations.prune(older_than=timedelta(days=30)))


if __name__ == "__main__":
    main()
