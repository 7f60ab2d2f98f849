"""List the keys that a dead or waiting delivery holds up, for handlers that keep order."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from outbox.monitor.blocked import MOST, longest_lines

from .common import count


def add_arguments(parser: ArgumentParser) -> None:
    """Declare --most."""
    parser.add_argument("--most", type=int, default=MOST, metavar="N", help="how many keys (50)")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write each key with the delivery that blocks it, the most blocked first."""
    found = longest_lines(max(1, options["most"]))
    for one in found:
        number = count(one.number, "delivery", "deliveries")
        write(f"{one.key} of {one.handler}: {number} blocked")
        if one.head is not None:
            write(f"    by delivery {one.head.pk} ({one.head.state}): {one.why}")
    if not found:
        write("No key is blocked.")
