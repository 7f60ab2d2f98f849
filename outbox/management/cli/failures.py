"""The subcommand groups: failing and dead deliveries by cause."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from outbox.formatting import format_time
from outbox.monitor import groups
from outbox.monitor.failing import failing_groups
from outbox.monitor.failures import DEAD, FailureGroup

from .common import Options, Write, add_json, count, red, write_json


class Groups:
    """Show failing and dead deliveries grouped by cause, with the command that retries each."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --json."""
        add_json(parser)

    def run(self, options: Options, write: Write) -> None:
        """Write the groups, or the JSON."""
        failing, dead = failing_groups(), groups.groups()
        if options["json"]:
            found = [*map(failing_as_json, failing), *map(_group_as_json, dead)]
            write_json(found, write)
            return
        for group in failing:
            _write_failing(group, options, write)
        for one in dead:
            _write_group(one, write)
        if not failing and not dead:
            write("No delivery is failing or dead.")


def _group_as_json(one: groups.Group) -> dict[str, Any]:
    return {"kind": DEAD, **asdict(one), "retry": one.retry, "correct": one.correct}


def failing_as_json(one: FailureGroup) -> dict[str, Any]:
    """Return a failing group as a dict for JSON."""
    columns = asdict(one)
    del columns["now"]
    return {**columns, "text": one.text, "retry": one.retry, "pause": one.pause}


def _write_failing(one: FailureGroup, options: Options, write: Write) -> None:
    write(red(one.text, options))
    write(f"    {one.details}, for example delivery {one.example}")
    write(f"    to try again now: {one.retry}")
    write(f"    to pause the handler: {one.pause}")


def _write_group(one: groups.Group, write: Write) -> None:
    where = f" at {one.place}" if one.place and not one.reason else ""
    times = f"between {format_time(one.first)} and {format_time(one.last)}"
    write(f"{count(one.number, 'delivery', 'deliveries')} of {one.handler}: {one.cause}{where}")
    write(f"    {times}, for example delivery {one.example}")
    if one.is_overtaken:
        write(f"    a retry runs them out of order; see manage.py outbox why {one.example}")
        write(f"    if the handler can run out of order: {one.retry}")
        write(f"    otherwise: {one.discard}")
        return
    if one.is_unsettled:
        write(f"    first check the consumer: manage.py outbox why {one.example}")
        write(f"    to publish them again: {one.retry}")
        write(f"    if the settlement is not needed: {one.discard}")
    elif one.reason:
        write(f"    to correct one: {one.correct}")
        write(f"    after a release that can read them: {one.retry}")
        write(f"    otherwise: {one.discard}")
    else:
        write(f"    {one.retry}")
