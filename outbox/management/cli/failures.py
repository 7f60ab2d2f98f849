"""The subcommand groups: failing and dead deliveries by cause."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.utils.translation import gettext as _

from outbox.formatting import format_time
from outbox.monitor import groups
from outbox.monitor.failing import failing_view
from outbox.monitor.failures import DEAD, FailureGroup, unexamined_text

from .common import Options, Write, add_json, count, red, write_json
from .in_databases import named

#: `kind` in the JSON of a handler of which only a sample was examined.
_UNEXAMINED = "unexamined"


class Groups:
    """Show failing and dead deliveries grouped by cause, with the command that retries each."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --json."""
        add_json(parser)

    def run(self, options: Options, write: Write) -> None:
        """Write the groups, or the JSON."""
        view, dead = failing_view(), groups.groups()
        if options["json"]:
            parts = [*map(failing_as_json, view.groups), *map(_unexamined_as_json, view.unexamined)]
            write_json([*parts, *map(_group_as_json, dead)], write)
            return
        for group in view.groups:
            _write_failing(group, options, write)
        for handler in view.unexamined:
            write(red(unexamined_text(handler), options))
        for one in dead:
            _write_group(one, write)
        if not (view.groups or view.unexamined or dead):
            write(_("No delivery is failing or dead."))


def _group_as_json(one: groups.Group) -> dict[str, Any]:
    correct = one.correct and named(one.correct)
    return {"kind": DEAD, **asdict(one), "retry": named(one.retry), "correct": correct}


def _unexamined_as_json(handler: str) -> dict[str, Any]:
    return {"kind": _UNEXAMINED, "handler": handler, "text": unexamined_text(handler)}


def failing_as_json(one: FailureGroup) -> dict[str, Any]:
    """Return a failing group as a dict for JSON."""
    columns = asdict(one)
    del columns["now"]
    return {**columns, "text": one.text, "retry": named(one.retry), "pause": named(one.pause)}


def _write_failing(one: FailureGroup, options: Options, write: Write) -> None:
    write(red(one.text, options))
    for line in (
        _example(one.details, one.example),
        _("to try again now: %(retry)s") % {"retry": named(one.retry)},
        _("to pause the handler: %(pause)s") % {"pause": named(one.pause)},
    ):
        write(f"    {line}")


def _example(facts: str, delivery: int) -> str:
    text = _("%(facts)s, for example delivery %(example)s")
    return text % {"facts": facts, "example": delivery}


def _write_group(one: groups.Group, write: Write) -> None:
    write(_head(one))
    times = _("between %(first)s and %(last)s") % {
        "first": format_time(one.first),
        "last": format_time(one.last),
    }
    for line in (_example(times, one.example), *_next_steps(one)):
        write(f"    {line}")


def _head(one: groups.Group) -> str:
    where = (" " + _("at %(place)s") % {"place": one.place}) if one.place and not one.reason else ""
    return _("%(counted)s of %(handler)s: %(cause)s%(where)s") % {
        "counted": count(one.number, "delivery", "deliveries"),
        "handler": one.handler,
        "cause": one.cause,
        "where": where,
    }


def _next_steps(one: groups.Group) -> list[str]:
    retry = named(one.retry)
    why = named(shlex.join(["manage.py", "outbox", "why", str(one.example)]))
    discard = _("otherwise: %(discard)s") % {"discard": named(one.discard)}
    if one.is_overtaken:
        return [
            _("a retry runs them out of order; see %(why)s") % {"why": why},
            _("if the handler can run out of order: %(retry)s") % {"retry": retry},
            discard,
        ]
    if one.is_unsettled:
        return [
            _("first check the consumer: %(why)s") % {"why": why},
            _("to publish them again: %(retry)s") % {"retry": retry},
            _("if the settlement is not needed: %(discard)s") % {"discard": named(one.discard)},
        ]
    if one.reason:
        return [
            _("to correct one: %(correct)s") % {"correct": named(one.correct)},
            _("after a release that can read them: %(retry)s") % {"retry": retry},
            discard,
        ]
    return [retry]
