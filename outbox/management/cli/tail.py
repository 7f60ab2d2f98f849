"""Follow what happens: events as they are told, and what comes of each of their deliveries."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from outbox.monitor.tail import Follower

from .choosing import refuse_unknown_handler

_POLL_SECONDS = 1.0


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the filters, --last and --no-follow."""
    parser.add_argument("--handler", metavar="HANDLER", help="what this handler does")
    parser.add_argument("--event", metavar="EVENT", help='about this event, "app.ClassName"')
    parser.add_argument("--key", metavar="KEY", help="about this key, such as an order's id")
    parser.add_argument("--last", type=int, default=10, metavar="N", help="events to begin with")
    parser.add_argument("--no-follow", action="store_true", help="end after these")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write a line for each new event and each changed delivery, until Ctrl-C."""
    if options["handler"]:
        refuse_unknown_handler(options["handler"])
    follower = Follower(
        handler=options["handler"] or "",
        event=options["event"] or "",
        key=options["key"] or "",
        last=max(0, options["last"]),
    )
    try:
        for _ in _polls(once=options["no_follow"]):
            for line in follower.poll():
                write(line)
    except KeyboardInterrupt:
        return


def _polls(*, once: bool) -> Iterator[None]:
    yield
    while not once:
        time.sleep(_POLL_SECONDS)
        yield
