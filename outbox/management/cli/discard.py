"""Settle deliveries that need not be done any more; their handlers never see them."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox import actions

from .acting import Progress, add_acting, reason_of, told, write_preview
from .choosing import add_choice, choice_of
from .common import count, operator


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what narrows the choice; all of it must fit."""
    add_choice(parser)
    add_acting(parser, rate=actions.RATE)


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Discard the chosen deliveries and say how many."""
    choice = choice_of(options)
    if choice.is_empty:
        raise CommandError("Say which: delivery or event ids, keys, --handler HANDLER, or --state.")
    if options["dry_run"]:
        write_preview(actions.preview("discard", choice), write)
        return
    done = actions.discard(
        choice,
        by=operator(),
        reason=reason_of(options),
        rate=options["rate"],
        report=Progress(write),
    )
    if not done.touched:
        raise CommandError("Nothing to discard: what is settled or sent is left alone.")
    write(f"{count(done.touched, 'delivery', 'deliveries')} discarded. {told(done)}")
