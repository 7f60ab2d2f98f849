"""Write a Grafana board of this code's handlers, as JSON."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from outbox.metrics.grafana import grafana_board
from outbox.subscriptions import registry


def add_arguments(parser: ArgumentParser) -> None:
    """Declare nothing."""


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write the board."""
    write(grafana_board(registry))
