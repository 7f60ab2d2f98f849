"""Write each app's events.lock.json: every event and version, for `manage.py check` to compare."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox.checks.event_classes import incompatible_change_message
from outbox.contracts import lock as contract_lock

from .common import count


def add_arguments(parser: ArgumentParser) -> None:
    """Declare --check."""
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where something is not recorded"
    )


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Update the lock files. Raise `CommandError` if an event has an incompatible change."""
    configs = list(contract_lock.apps_with_events())
    try:
        found = [one for config in configs for one in contract_lock.incompatible_changes(config)]
        news = [one for config in configs for one in contract_lock.unrecorded(config)]
    except ValueError as error:
        raise CommandError(str(error)) from error
    if found:
        raise CommandError("\n\n".join(str(incompatible_change_message(one)) for one in found))
    if not options["check"]:
        news = _write(configs, write)
    elif news:
        names = "; ".join(news)
        raise CommandError(f"Not recorded yet: {names}. Run `manage.py outbox catalogue`.")
    if not news:
        write("Every event is recorded as it is.")


def _write(configs: list[Any], write: Callable[[str], object]) -> list[str]:
    changed = [config for config in configs if contract_lock.write(config)]
    for config in changed:
        events = contract_lock.read(config)
        write(f"{contract_lock.path_of(config)}: {count(len(events), 'event')}")
    return [config.label for config in changed]
