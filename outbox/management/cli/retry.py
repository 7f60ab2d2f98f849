"""Make deliveries due now: dead, waiting for their next attempt, or left parked."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from outbox import operations
from outbox.models import Delivery

from .acting import act, add_acting, write_preview
from .choosing import add_choice, choice_of, narrow_choice


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the filters of deliveries."""
    add_choice(parser)
    parser.add_argument("--dead", action="store_true", help="the dead ones only")
    add_acting(parser, rate=operations.RATE)


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Retry the chosen deliveries, and write their number."""
    choice = _choice(options)
    if options["dry_run"]:
        write_preview(operations.preview("retry", choice), write)
        return
    act(
        operations.retry, choice, options, write,
        did="due now", nothing=_nothing(options), needs_reason=False,
    )  # fmt: skip


def _choice(options: Mapping[str, Any]) -> operations.Choice:
    if options["dead"]:
        return replace(choice_of(options), states=(Delivery.State.DEAD.value,))
    return narrow_choice(options, last="--dead")


def _nothing(options: Mapping[str, Any]) -> str:
    if len(options["id"]) == 1:
        return f"Nothing to retry: see `manage.py outbox why {options['id'][0]}`."
    return "Nothing to retry: none of these is dead, waits for an attempt, or was left parked."
