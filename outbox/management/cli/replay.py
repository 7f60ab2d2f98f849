"""Have handlers handle settled deliveries once more, on purpose."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox import operations
from outbox.models import Delivery
from outbox.operations.dry_run import NoTrial, Trial, try_out

from .acting import act, add_acting, write_preview
from .choosing import add_choice, narrow_choice

_TRIED = 5


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the filters of deliveries, and --show-writes."""
    add_choice(parser)
    parser.add_argument(
        "--show-writes",
        action="store_true",
        help="with --dry-run: run the handler for the first few, show what it writes, roll back",
    )
    add_acting(parser, rate=operations.RATE)


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Replay the chosen deliveries, and write their number."""
    choice = narrow_choice(options, last="--event")
    if options["show_writes"] and not options["dry_run"]:
        raise CommandError("--show-writes goes with --dry-run.")
    if options["dry_run"]:
        _preview(choice, write, show_writes=options["show_writes"])
        return
    nothing = "Nothing to replay: only what is done or discarded can be."
    act(operations.replay, choice, options, write, did="due again", nothing=nothing)


def _preview(
    choice: operations.Choice, write: Callable[[str], object], *, show_writes: bool
) -> None:
    write_preview(operations.preview("replay", choice), write)
    if not show_writes:
        return
    for row in operations.replayable(choice.deliveries()).order_by("pk")[:_TRIED]:
        try:
            _write_trial(try_out(row.pk), write)
        except Delivery.DoesNotExist:
            continue  # pruned since it was listed
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
