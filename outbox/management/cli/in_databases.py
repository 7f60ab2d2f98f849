"""Run a subcommand in one database of `OUTBOX["DATABASES"]`, or in each of them."""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser
from collections.abc import Iterable

from django.core.management.base import CommandError
from django.db import connections
from django.utils.translation import gettext as _

from outbox import databases
from outbox.formatting import listing

from . import errors
from .common import Options, Subcommand, Write, red, write_json

#: Subcommands that only read or that keep the tables: they run in each database.
EACH = {
    "status",
    "doctor",
    "groups",
    "blocked",
    "rehearse",
    "prune",
    "log",
    "alerts",
}
#: Subcommands for which an id, a key or a handler names something in one database.
ONE = {
    "why",
    "tail",
    "retry",
    "discard",
    "replay",
    "backfill",
    "pause",
    "resume",
    "close-breaker",
    "end",
    "redact",
    "continue",
    "correct",
}
#: Subcommands that run in the default database unless another one is named.
DEFAULT = {"receive", "sinks"}

#: A command in a text, and its subcommand.
_COMMAND = re.compile(r"`(manage\.py\soutbox\s([\w-]+)[^`\n]*)`")


def add_database(parser: ArgumentParser, name: str) -> None:
    """Declare --database, if there are several and the subcommand reads one."""
    known = databases.listed()
    if len(known) < 2 or name not in EACH | ONE | DEFAULT:
        return
    texts = {
        True: _("only this database; default: each of them"),
        False: _("the database, which has to be named"),
    }
    text = _("the database (%(first)s)") % {"first": known[0]}
    parser.add_argument(
        "--database", choices=known, help=text if name in DEFAULT else texts[name in EACH]
    )


def named(command: str) -> str:
    """Return a command for the database that the running code works on, if there are several."""
    if len(databases.listed()) < 2 or "--database" in command:
        return command
    return f"{command} --database {databases.alias()}"


def run_in_databases(name: str, subcommand: Subcommand, options: Options, write: Write) -> None:
    """Run a subcommand in the named database, or in each.

    Raises:
        CommandError: the subcommand needs one database, and none was named; or a database is not in
            `DATABASES`.
    """
    known, chosen = databases.listed(), options.get("database")
    if known and _reads_no_database(name, options):
        chosen = chosen or known[0]
    if chosen is None and len(known) > 1 and name in ONE:
        raise CommandError(
            _("Each database has its own ids and handlers. Name one: --database %(names)s.")
            % {"names": "|".join(known)}
        )
    if name in EACH | ONE | DEFAULT | {"init"}:
        _refuse_missing([chosen] if chosen else known)
    if chosen is None and len(known) > 1 and name in EACH:
        _run_in_each(subcommand, options, write)
        return
    with databases.working_on(chosen):
        if name in EACH | ONE | DEFAULT:
            _run(subcommand, options, write)
        else:
            subcommand.run(options, write)


def _refuse_missing(aliases: Iterable[str]) -> None:
    for missing in (one for one in aliases if one not in connections.settings):
        text = _(
            'OUTBOX["DATABASES"] names %(missing)s, which DATABASES does not have. The known '
            "aliases are %(known)s. Correct the alias, or add the database to DATABASES."
        )
        facts = {"missing": missing, "known": listing(sorted(connections.settings))}
        raise CommandError(text % facts)


def _run(subcommand: Subcommand, options: Options, write: Write) -> None:
    """Run it in one database. The commands that its texts name are for the same one."""
    try:
        subcommand.run(options, lambda text: write(_with_named(text)))
    except CommandError as error:
        text = _with_named(str(error))
        raise CommandError(text, returncode=error.returncode) from error


def _with_named(text: str) -> str:
    def with_named(found: re.Match[str]) -> str:
        return f"`{named(found[1])}`" if found[2] in EACH | ONE | DEFAULT else found[0]

    return _COMMAND.sub(with_named, text)


def _reads_no_database(name: str, options: Options) -> bool:
    """Return whether it only tests channels, or compares a document."""
    of_document = options.get("asyncapi") or options.get("source")
    return bool(options.get("action") if name == "alerts" else name == "rehearse" and of_document)


def _run_in_each(subcommand: Subcommand, options: Options, write: Write) -> None:
    """Run it in each database; exit with the highest status of all.

    A database that cannot be reached is named, and prevents no other one. The status is then 1 or
    higher.
    """
    found: dict[str, object] = {}
    status = 0
    for using in databases.listed():
        texts: list[str] = []
        if not options.get("json"):
            write(_("Database %(using)s:") % {"using": using})
        try:
            with databases.working_on(using):
                _run(subcommand, options, texts.append if options.get("json") else write)
        except SystemExit as ended:
            if ended.code == errors.UNREAD:
                raise
            status = max(status, ended.code if isinstance(ended.code, int) else 1)
        except CommandError as error:
            status = max(status, error.returncode)
            texts = [json.dumps({"error": str(error)})]
            if not options.get("json"):
                write(red(str(error), options))
        except errors.EXPLAINED as error:
            with databases.working_on(using):
                text = errors.explained(error)
            if not text:  # an error of the code
                raise
            status = max(status, 1)
            texts = [json.dumps({"error": text})]
            if not options.get("json"):
                write(red(text, options))
        found[using] = json.loads("".join(texts) or "null") if options.get("json") else None
    if options.get("json"):
        write_json({"databases": found}, write)
    if status:
        sys.exit(status)
