"""The subcommands of `manage.py outbox`: a module each with `add_arguments()` and `run()`."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from . import (
    backfill,
    blocked,
    catalogue,
    close_breaker,
    discard,
    doctor,
    end,
    events,
    go_on,
    groups,
    log,
    pause,
    prune,
    redact,
    rehearse,
    relay,
    replay,
    resume,
    retry,
    status,
    tail,
    why,
)


class Subcommand(Protocol):
    """A module of this package; the first line of its docstring is its help."""

    __doc__: str | None

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare its arguments."""

    def run(self, options: Mapping[str, Any], write: Callable[[str], object]) -> None:
        """Run it; raise `CommandError` with one clear sentence if it fails."""


SUBCOMMANDS: dict[str, Subcommand] = {
    "status": status,
    "why": why,
    "tail": tail,
    "groups": groups,
    "blocked": blocked,
    "doctor": doctor,
    "retry": retry,
    "discard": discard,
    "replay": replay,
    "backfill": backfill,
    "pause": pause,
    "resume": resume,
    "close-breaker": close_breaker,
    "end": end,
    "prune": prune,
    "redact": redact,
    "go-on": go_on,
    "log": log,
    "events": events,
    "catalogue": catalogue,
    "rehearse": rehearse,
    "relay": relay,
}
