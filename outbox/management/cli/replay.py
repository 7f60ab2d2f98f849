"""Have handlers handle settled deliveries once more, on purpose."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox import actions
from outbox.actions.trial import NoTrial, Trial, try_out

from .acting import Progress, add_acting, reason_of, told, write_preview
from .choosing import add_choice, choice_of
from .common import count, operator

_TRIED = 5


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what narrows the choice, and the trial."""
    add_choice(parser)
    parser.add_argument(
        "--show-writes",
        action="store_true",
        help="with --dry-run: run the handler for the first few, show what it writes, roll back",
    )
    add_acting(parser, rate=actions.RATE)


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Replay the chosen deliveries and say how many."""
    choice = choice_of(options)
    if choice.is_empty:
        raise CommandError("Say which: delivery or event ids, keys, --handler HANDLER or --event.")
    if options["show_writes"] and not options["dry_run"]:
        raise CommandError("--show-writes goes with --dry-run.")
    if options["dry_run"]:
        _preview(choice, write, show_writes=options["show_writes"])
        return
    done = actions.replay(
        choice,
        by=operator(),
        reason=reason_of(options),
        rate=options["rate"],
        report=Progress(write),
    )
    if not done.touched:
        raise CommandError("Nothing to replay: only what is done or discarded can be.")
    write(f"{count(done.touched, 'delivery', 'deliveries')} due again. {told(done)}")


def _preview(choice: actions.Choice, write: Callable[[str], object], *, show_writes: bool) -> None:
    write_preview(actions.preview("replay", choice), write)
    if not show_writes:
        return
    for row in actions.replayable(choice.deliveries()).order_by("pk")[:_TRIED]:
        try:
            _write_trial(try_out(row.pk), write)
        except NoTrial as error:
            raise CommandError(str(error)) from error


def _write_trial(found: Trial, write: Callable[[str], object]) -> None:
    write(f"delivery {found.delivery_id} to {found.handler}, tried and rolled back:")
    for line in (*found.writes, *(f"emits {event}" for event in found.events)):
        write(f"    {line}")
    if found.error:
        write(f"    raises {found.error}")
    elif not found.writes and not found.events:
        write("    writes nothing and emits nothing")
