"""Write alert rules for Prometheus, of this code's handlers and queues, as YAML."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from outbox.metrics.alerts import AGE, alert_rules
from outbox.subscriptions import registry


def add_arguments(parser: ArgumentParser) -> None:
    """Declare --age."""
    parser.add_argument(
        "--age",
        type=float,
        default=AGE,
        metavar="SECONDS",
        help=f"how long an event may be owed, above its handler's lease ({AGE:g})",
    )


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write the rules."""
    write(alert_rules(registry, age=options["age"]))
