"""Subcommands on AsyncAPI documents: asyncapi, diff, and rehearse with a document."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from outbox.contracts.asyncapi import as_text, document
from outbox.contracts.asyncapi.dependencies import Reader, compare
from outbox.contracts.asyncapi.differences import differences
from outbox.contracts.asyncapi.markdown import as_markdown
from outbox.contracts.asyncapi.reading import Contract, Unreadable, contract_of, read
from outbox.contracts.json_schemas import read_schema
from outbox.sources.events import declared_by

from .common import Options, Write, count, not_written


class Asyncapi:
    """Write the AsyncAPI document: channels, messages and examples of all events."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --output, --check and --external."""
        parser.add_argument(
            "--output", metavar="FILE", help=_("write the document to a file; .md: as Markdown")
        )
        parser.add_argument(
            "--check",
            metavar="FILE",
            help=_("write nothing; fail if this file is not the document of this code"),
        )
        parser.add_argument(
            "--external",
            action="store_true",
            help=_("leave out the channels between this code's events and its own handlers"),
        )

    def run(self, options: Options, write: Write) -> None:
        """Write or compare the document. Raise `CommandError` if the file differs."""
        try:
            made = document(internal=not options["external"])
        except (ImproperlyConfigured, ValueError) as error:
            raise CommandError(str(error)) from error
        if options["check"]:
            _check(Path(options["check"]), made, again=_again(options))
            write(_("%(check)s is up to date.") % {"check": options["check"]})
        elif options["output"]:
            _write(Path(options["output"]), made)
            write(f"{options['output']}: {count(len(made['channels']), 'channel')}")
        else:
            write(as_text(made).rstrip("\n"))


class Diff:
    """Compare two AsyncAPI documents, and list the changes that break another system."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the two documents."""
        parser.add_argument("old", metavar="OLD", help=_("the earlier document, JSON or YAML"))
        parser.add_argument("new", metavar="NEW", help=_("the later document, JSON or YAML"))

    def run(self, options: Options, write: Write) -> None:
        """Write the differences, the breaking ones first; exit with status 1 if there is one."""
        found = differences(_read(options["old"]), _read(options["new"]))
        breaking = [one for one in found if not one.is_compatible]
        for title, some in (
            (_("Breaking changes:"), breaking),
            (_("Compatible changes:"), found[len(breaking) :]),
        ):
            if some:
                write("\n    ".join([title, *(one.text for one in some)]))
        if not found:
            write(_("The two documents describe the same contract."))
        if breaking:
            sys.exit(1)


def rehearse_document(path: str | None, source: str | None, write: Write) -> None:
    """Compare the external events of a source with a document of the system they come from.

    Raises:
        CommandError: this code could not read a message, or an argument is missing or unknown.
    """
    if not path or not source:
        raise CommandError(_("--asyncapi and --source require each other."))
    readers = [
        Reader(event=one.event_name, type=one.event_type, schema=read_schema(one))
        for one in declared_by(source)
    ]
    if not readers:
        known = sorted({one.event_source for one in declared_by("")})
        raise CommandError(
            _(
                "No installed app declares an ExternalEvent with "
                "source=%(source)s. Sources with external events: %(names)s."
            )
            % {"source": repr(source), "names": ", ".join(known) or _("none")}
        )
    contract = _read(path)
    name, found = f"{contract.title} {contract.version}", compare(readers, contract)
    for text in found.problems:
        write(text)
    for text in found.doubts:
        write(_("%(text)s The document states no format, so this is no error.") % {"text": text})
    if found.problems:
        raise CommandError(
            _("%(counted)s with %(name)s.")
            % {"counted": count(len(found.problems), "problem"), "name": name}
        )
    write(
        _("%(counted)s compared. This code can read %(name)s.")
        % {"counted": count(len(readers), "external event"), "name": name}
    )


def _write(path: Path, made: Mapping[str, Any]) -> None:
    try:
        path.write_text(_text(path, made), "utf-8")
    except OSError as error:
        raise CommandError(not_written(path, error)) from error


def _text(path: Path, made: Mapping[str, Any]) -> str:
    return as_markdown(made) if path.suffix == ".md" else as_text(made)


def _check(path: Path, made: Mapping[str, Any], *, again: str) -> None:
    if not path.exists():
        raise CommandError(_("%(path)s does not exist. %(again)s") % {"path": path, "again": again})
    try:
        is_same = path.read_text("utf-8") == _text(path, made)
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise CommandError(
            _("The file %(file)s cannot be read: %(strerror)s.")
            % {"file": path, "strerror": cause or error}
        ) from error
    if is_same:
        return
    sentences = [] if path.suffix == ".md" else list(_sentences(path, contract_of(made)))
    raise CommandError("\n".join([_("%(path)s is outdated.") % {"path": path}, *sentences, again]))


def _sentences(path: Path, now: Contract) -> Iterator[str]:
    found = differences(_read(path), now)
    for one in found:
        yield (
            one.text
            if one.is_compatible
            else _("%(text)s This breaks other systems.") % {"text": one.text}
        )
    if not found:
        yield _("Descriptions, titles or examples differ.")


def _again(options: Options) -> str:
    external = " --external" if options["external"] else ""
    return _("Run `manage.py outbox asyncapi%(external)s --output %(check)s`.") % {
        "external": external,
        "check": options["check"],
    }


def _read(path: str | Path) -> Contract:
    try:
        return read(path)
    except Unreadable as error:
        raise CommandError(str(error)) from error
