"""The subcommand sinks: list, preview and check the configured sinks."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.formatting import did_you_mean
from outbox.monitor import previews
from outbox.privacy.omission import UndeclaredField
from outbox.receipt import PermanentFailure
from outbox.sinks.configuration import SinkConfig, configured

from .common import Options, Write, add_json, count, table, write_json

_HEAD = ("SINK", "STATE", "EVENTS", "TOPIC", "BACKEND")


class Sinks:
    """List the configured sinks, preview a message, or check the external systems."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the actions; without one, the sinks are listed."""
        add_json(parser)
        actions = parser.add_subparsers(dest="action", metavar="ACTION")
        for name, action in _ACTIONS.items():
            summary = (action.__doc__ or "").splitlines()[0]
            action.add_arguments(actions.add_parser(name, help=summary, description=summary))

    def run(self, options: Options, write: Write) -> None:
        """Run the action, or list the sinks. Raise `CommandError` for invalid settings."""
        try:
            if options["action"]:
                _ACTIONS[options["action"]].run(options, write)
            else:
                _write_list(options, write)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error


class Preview:
    """Show the exact message of an event: topic, key, headers and body. Nothing is sent."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the sink and --event."""
        parser.add_argument("name", metavar="NAME", help=_("a sink"))
        parser.add_argument(
            "--event",
            metavar="ID",
            help=_("id of an event (default: the newest that the sink publishes, else an example)"),
        )

    def run(self, options: Options, write: Write) -> None:
        """Write the message; raise `CommandError` if the event has none."""
        config = _found(options["name"])
        try:
            shown = previews.preview(config, _event_id(options["event"]))
        except (previews.NoEvent, PermanentFailure, UndeclaredField) as error:
            raise CommandError(str(error)) from error
        for line in _lines(shown):
            write(line)


class Check:
    """Ask the external systems: do the destinations exist, and may this process publish to them?"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the sink and --timeout."""
        parser.add_argument("name", nargs="?", metavar="NAME", help=_("a sink (default: all)"))
        parser.add_argument(
            "--timeout", type=float, default=10.0, metavar="SECONDS", help=_("per sink (10)")
        )

    def run(self, options: Options, write: Write) -> None:
        """Write the problems; exit with status 1 if there is one."""
        name = options["name"]
        configs = [_found(name)] if name else list(configured().values())
        if not configs:
            write(str(_NONE))
        found = [_checked(one, options["timeout"], write) for one in configs]
        if not all(found):
            sys.exit(1)


_ACTIONS: dict[str, Any] = {"preview": Preview(), "check": Check()}
_NONE = gettext_lazy('No sink is configured. Set OUTBOX["SINKS"].')


def _write_list(options: Options, write: Write) -> None:
    found = previews.sink_states()
    if options["json"]:
        write_json([_as_json(one) for one in found], write)
    elif found:
        write(table(_HEAD, [_row(one) for one in found]))
    else:
        write(str(_NONE))


def _row(one: previews.SinkState) -> tuple[object, ...]:
    config = one.config
    return (config.name, one.label, ", ".join(config.events), config.topic, config.backend)


def _as_json(one: previews.SinkState) -> dict[str, Any]:
    config = one.config
    return {
        "name": config.name,
        "backend": config.backend,
        "events": config.events,
        "topic": config.topic,
        "format": config.format,
        "ordered": config.ordered,
        "sensitive": config.sensitive,
        "handler": config.handler,
        "state": one.kind,
    }


def _found(name: str) -> SinkConfig:
    known = configured()
    if name not in known:
        hint = did_you_mean(name, known) or _("Sinks: %(names)s.") % {
            "names": ", ".join(known) or _("none")
        }
        raise CommandError(
            _('OUTBOX["SINKS"] has no sink %(name)s. %(hint)s') % {"name": name, "hint": hint}
        )
    return known[name]


def _event_id(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise CommandError(
            _("%(text)s is no event id. An event id is a UUID.") % {"text": text}
        ) from None


def _lines(shown: previews.Preview) -> Iterable[str]:
    message, config = shown.message, shown.config
    origin = _("an example built from its schema") if shown.is_example else _("stored")
    encoding = f", {shown.encoding}" if shown.encoding else ""
    limit = (
        (" " + _("of at most %(limit)s") % {"limit": f"{shown.limit:,}"})
        if shown.limit is not None
        else ""
    )
    yield _("event     %(name)s, version %(version)s, %(id)s") % {
        "name": message.event.name,
        "version": message.event.version,
        "id": message.event.id,
    }
    yield f"          {origin}"
    yield _("format    %(format)s%(encoding)s") % {"format": config.format, "encoding": encoding}
    yield _("topic     %(line)s") % {"line": _line(message.topic)}
    yield _("key       %(line)s") % {"line": _line(message.key)}
    yield _("id        %(id)s (deduplication)") % {"id": message.id}
    for name, value in message.headers.items():
        yield _("header    %(line)s: %(line2)s") % {"line": _line(name), "line2": _line(value)}
    yield _("body      %(counted)s") % {"counted": count(len(message.body), "byte")}
    yield shown.body
    yield _("size      %(counted)s%(limit)s, with key and headers") % {
        "counted": count(message.size, "byte"),
        "limit": limit,
    }
    yield _("omitted   %(omitted)s") % {"omitted": _omitted(shown)}


def _line(text: str) -> str:
    return previews.printable(text).replace("\n", "\\n")


def _omitted(shown: previews.Preview) -> str:
    if shown.config.sensitive:
        return _("nothing, since SENSITIVE is True: sensitive fields are sent")
    if shown.omitted:
        return f"{', '.join(shown.omitted)} (sensitive)"
    return _("nothing, since no field of this event is sensitive")


def _checked(config: SinkConfig, timeout: float, write: Write) -> bool:
    problems = previews.check(config, timeout=timeout)
    for problem in problems:
        write(f"ERROR    {config.name}: {problem}")
    if not problems:
        topics = sorted(previews.destinations(config))
        write(_("ok       %(name)s: %(names)s") % {"name": config.name, "names": ", ".join(topics)})
    return not problems
