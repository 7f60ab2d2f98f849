"""Settle deliveries that need not be done any more; their handlers never see them."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from outbox import operations

from .acting import act, add_acting, write_preview
from .choosing import add_choice, narrow_choice


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the filters of deliveries."""
    add_choice(parser)
    add_acting(parser, rate=operations.RATE)


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Discard the chosen deliveries, and write their number."""
    choice = narrow_choice(options, last="--state")
    if options["dry_run"]:
        write_preview(operations.preview("discard", choice), write)
        return
    nothing = "Nothing to discard: what is settled or sent is left alone."
    act(operations.discard, choice, options, write, did="discarded", nothing=nothing)
