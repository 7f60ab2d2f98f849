"""Subcommands that check the code or the running system: doctor, events, catalogue, rehearse."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from outbox import doctor
from outbox.checks.event_classes import incompatible_change_message
from outbox.contracts import lock as contract_lock
from outbox.contracts.catalogue import CatalogueEntry, CatalogueField, catalogue
from outbox.contracts.rehearsal import Problem, Rehearsal, rehearse

from . import contracts
from .common import Options, Write, add_json, count, not_written, write_json

_MARKS = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}


class Doctor:
    """Check the running system: broker, settings, database, heartbeats, queues, deliveries."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --json, --timeout, --queue and --worker."""
        add_json(parser)
        parser.add_argument(
            "--timeout",
            type=float,
            default=10.0,
            metavar="SECONDS",
            help=_("time limit of a canary through a queue (10)"),
        )
        parser.add_argument(
            "--queue",
            action="append",
            default=[],
            metavar="NAME",
            help=_("liveness probe: check only that this queue is consumed; can be repeated"),
        )
        parser.add_argument(
            "--worker",
            default="",
            metavar="NAME",
            help=_("with --queue: this worker must run and consume it, such as inventory@host"),
        )

    def run(self, options: Options, write: Write) -> None:
        """Write the findings; exit with status 1 if one is an error."""
        found = _findings(options)
        if options["json"]:
            write_json([asdict(one) for one in found], write)
        else:
            for one in found:
                _write_finding(one, write)
        if any(one.severity == doctor.ERROR for one in found):
            sys.exit(1)


class Events:
    """List all events of the installed apps: source location, fields, handlers."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the event or app to list."""
        parser.add_argument("name", nargs="?", default="", help=_("an event, or an app"))

    def run(self, options: Options, write: Write) -> None:
        """Write an entry for each matching event."""
        name = options["name"]
        found = [entry for entry in catalogue() if not name or _matches(entry, name)]
        if not found:
            raise CommandError(
                _("No installed app declares %(name)s.") % {"name": name}
                if name
                else _("No installed app declares an event.")
            )
        write("\n\n".join(_entry(entry) for entry in found))


class Catalogue:
    """Write each app's events.lock.json, with which `manage.py check` compares its events."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --check."""
        parser.add_argument(
            "--check",
            action="store_true",
            help=_("write nothing; fail if an event is not recorded"),
        )

    def run(self, options: Options, write: Write) -> None:
        """Update the lock files. Raise `CommandError` if an event has an incompatible change."""
        configs = list(contract_lock.apps_with_events())
        try:
            found = [
                one for config in configs for one in contract_lock.incompatible_changes(config)
            ]
            news = [one for config in configs for one in contract_lock.unrecorded(config)]
        except ValueError as error:
            raise CommandError(str(error)) from error
        if found:
            raise CommandError("\n\n".join(str(incompatible_change_message(one)) for one in found))
        if not options["check"]:
            news = _write_locks(configs, write)
        elif news:
            names = "; ".join(news)
            raise CommandError(
                _("Not in events.lock.json: %(names)s. Run `manage.py outbox catalogue`.")
                % {"names": names}
            )
        if not news:
            write(_("Every events.lock.json is up to date."))


class Rehearse:
    """Decode all owed rows with this code, and list those that would fail or be orphaned."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --asyncapi and --source."""
        parser.add_argument(
            "--asyncapi",
            metavar="FILE",
            help=_(
                "read no rows: compare the external events of a source with this "
                "document of the other system"
            ),
        )
        parser.add_argument("--source", metavar="NAME", help=_("with --asyncapi: the source"))

    def run(self, options: Options, write: Write) -> None:
        """Rehearse; fail if this code could not handle an owed row, or read the document."""
        if options["asyncapi"] or options["source"]:
            contracts.rehearse_document(options["asyncapi"], options["source"], write)
            return
        found = rehearse(progress=_progress if sys.stderr.isatty() else None)
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
        for problem, number in found.problems.items():
            write(_problem(found, problem, number))
        for queue, handlers in found.unread_queues.items():
            write(
                _(
                    "queue %(queue)s: no handler of this code uses it. %(names)s may "
                    "have messages there until migrate; these are sent again when "
                    "their lease has expired."
                )
                % {"queue": queue, "names": ", ".join(handlers)}
            )
        if found.problems:
            raise CommandError(
                _("%(counted)s in %(read)s owed rows. Nothing was changed.")
                % {
                    "counted": count(sum(found.problems.values()), "problem"),
                    "read": f"{found.read:,}",
                }
            )
        write(
            _("%(counted)s read. This code can decode all of them.")
            % {"counted": count(found.read, "owed row")}
        )


def _findings(options: Options) -> list[doctor.Finding]:
    queues, worker, timeout = options["queue"], options["worker"], options["timeout"]
    if worker and not queues:
        raise CommandError(_("--worker requires --queue: the queues that it must consume."))
    return (
        doctor.probe(queues, worker=worker, timeout=timeout)
        if queues
        else doctor.examine(timeout=timeout)
    )


def _write_finding(one: doctor.Finding, write: Write) -> None:
    write(f"{_MARKS[one.severity]}  {one.label}: {one.text}")
    if one.severity != doctor.OK:
        write(f"         {one.advice}")


def _matches(entry: CatalogueEntry, name: str) -> bool:
    return name in (entry.name, entry.name.partition(".")[0])


def _entry(entry: CatalogueEntry) -> str:
    lines = [
        _("%(name)s, version %(version)s, key %(key)s  %(place)s")
        % {"name": entry.name, "version": entry.version, "key": entry.key, "place": entry.place}
    ]
    lines += [line for line in entry.description.splitlines()[:1] if line]
    lines.append((_("fields") + " ") + ", ".join(_field(field) for field in entry.fields))
    lines += [
        _("handler %(name)s  %(place)s") % {"name": handler.name, "place": handler.place}
        for handler in entry.handlers
    ]
    if not entry.handlers:
        lines.append(_("no handler"))
    return "\n    ".join(lines)


def _field(field: CatalogueField) -> str:
    text = _("%(name)s: %(type)s (optional)") if field.is_optional else "%(name)s: %(type)s"
    return text % {"name": field.name, "type": field.type}


def _write_locks(configs: list[Any], write: Write) -> list[str]:
    changed = [config for config in configs if _write_lock(config)]
    for config in changed:
        events = contract_lock.read(config)
        write(f"{contract_lock.path_of(config)}: {count(len(events), 'event')}")
    return [config.label for config in changed]


def _write_lock(config: Any) -> bool:
    try:
        return contract_lock.write(config)
    except OSError as error:  # an installed package may be read-only
        raise CommandError(not_written(contract_lock.path_of(config), error)) from error


def _problem(found: Rehearsal, problem: Problem, number: int) -> str:
    examples = ", ".join(found.examples[problem])
    return _(
        "%(number)s x %(handler)s, %(event)s version %(version)s: "
        "%(reason)s (for example %(examples)s)"
    ) % {
        "number": f"{number:,}",
        "handler": problem.handler,
        "event": problem.event,
        "version": problem.version,
        "reason": problem.reason,
        "examples": examples,
    }


def _progress(read: int) -> None:
    sys.stderr.write("\r" + _("%(read)s owed rows read") % {"read": f"{read:,}"})
    sys.stderr.flush()
