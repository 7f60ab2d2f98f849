"""The subcommands of `manage.py outbox`, a module each: `add_arguments(parser)` and `run()`."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from . import catalogue, events, pause, prune, rehearse, relay, resume, retry, status, why


class Subcommand(Protocol):
    """A module of this package; the first line of its docstring is its help."""

    __doc__: str | None

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare its arguments."""

    def run(self, options: Mapping[str, Any], write: Callable[[str], object]) -> None:
        """Do it; raise `CommandError` with one clear sentence if that cannot be."""


SUBCOMMANDS: dict[str, Subcommand] = {
    "status": status,
    "why": why,
    "retry": retry,
    "pause": pause,
    "resume": resume,
    "prune": prune,
    "events": events,
    "catalogue": catalogue,
    "rehearse": rehearse,
    "relay": relay,
}
