"""List the keys that a dead or waiting delivery holds up, for handlers that keep order."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from outbox.monitor.blocked import MOST, longest_lines

from .common import count


def add_arguments(parser: ArgumentParser) -> None:
    """Declare how many."""
    parser.add_argument("--most", type=int, default=MOST, metavar="N", help="how many keys (50)")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write each key with what comes first, the most held up first."""
    lines = longest_lines(max(1, options["most"]))
    for line in lines:
        number = count(line.number, "delivery", "deliveries")
        write(f"{line.key} of {line.handler}: {number} blocked")
        if line.head is not None:
            write(f"    by delivery {line.head.pk} ({line.head.state}): {line.why}")
    if not lines:
        write("No key is blocked.")
