"""Make deliveries due now: dead, waiting for their next attempt, or left parked."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError

from outbox import actions
from outbox.models import Delivery

from .acting import Progress, add_acting, reason_of, write_preview
from .choosing import add_choice, choice_of
from .common import count, operator


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what narrows the choice; all of it must fit."""
    add_choice(parser)
    parser.add_argument("--dead", action="store_true", help="the dead ones only")
    add_acting(parser, rate=actions.RATE)


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Retry the chosen deliveries and say how many."""
    choice = _choice(options)
    if options["dry_run"]:
        write_preview(actions.preview("retry", choice), write)
        return
    reason = reason_of(options, required=False)
    done = actions.retry(
        choice, by=operator(), reason=reason, rate=options["rate"], report=Progress(write)
    )
    if not done.touched:
        raise CommandError(_nothing(options))
    write(f"{count(done.touched, 'delivery', 'deliveries')} due now.")


def _choice(options: Mapping[str, Any]) -> actions.Choice:
    choice = choice_of(options)
    if options["dead"]:
        choice = replace(choice, states=(Delivery.State.DEAD.value,))
    if choice.is_empty:
        raise CommandError("Say which: delivery or event ids, keys, --handler HANDLER, or --dead.")
    return choice


def _nothing(options: Mapping[str, Any]) -> str:
    if len(options["id"]) == 1:
        return f"Nothing to retry: see `manage.py outbox why {options['id'][0]}`."
    return "Nothing to retry: none of these is dead, waits for an attempt, or was left parked."
