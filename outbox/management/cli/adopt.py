"""The subcommand adopt: store the sending of a project's Celery tasks with the transaction."""

from __future__ import annotations

import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from django.core.management.base import CommandError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .common import Options, Write, count

if TYPE_CHECKING:
    from outbox.adoption.adoption import Adoption


class Adopt:
    """Change code that sends Celery tasks with a transaction, so that the outbox stores them."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the paths, --to, --write, --atomic-requests and --check."""
        parser.add_argument("paths", nargs="+", metavar="PATH", help=_("a folder or a Python file"))
        parser.add_argument(
            "--to",
            choices=["task", "event"],
            default="task",
            help=_("a task with the base OutboxTask (default), or an event with a handler"),
        )
        parser.add_argument(
            "--write", action="store_true", help=_("write the files; otherwise print the diff")
        )
        parser.add_argument(
            "--atomic-requests",
            action="store_true",
            help=_("views are in a transaction, as with ATOMIC_REQUESTS"),
        )
        parser.add_argument(
            "--check", action="store_true", help=_("exit with status 1 if anything is left to do")
        )

    def run(self, options: Options, write: Write) -> None:
        """Print or write the changes, then list the calls that a person must change."""
        if find_spec("libcst") is None:
            raise CommandError(_('The subcommand adopt needs libcst (extra "adopt").'))
        from outbox.adoption import adoption
        from outbox.adoption.modules import Unreadable

        try:
            found = adoption.adopt(
                [Path(one) for one in options["paths"]],
                to=options["to"],
                atomic_requests=options["atomic_requests"],
            )
        except (Unreadable, adoption.AdoptionFailed) as error:
            raise CommandError(str(error)) from error
        if options["write"]:
            _warn_of_changes([one.path for one in found.files], write)
            try:
                found.write()
            except adoption.AdoptionFailed as error:
                raise CommandError(str(error)) from error
        _report(found, write, to=options["to"], is_written=options["write"])
        if options["check"] and (found.listed or (found.files and not options["write"])):
            sys.exit(1)


def _report(found: Adoption, write: Write, *, to: str, is_written: bool) -> None:
    from outbox.adoption.adoption import shown

    for one in found.files:
        write(
            _("%(path)s is written.") % {"path": shown(one.path)}
            if is_written
            else one.diff().rstrip("\n")
        )
    if found.listed:
        write(
            "\n"
            + _("%(counted)s to change by hand:") % {"counted": count(len(found.listed), "call")}
            + "\n"
        )
    for each in found.listed:
        reason = f"{each.reason[0].upper()}{each.reason[1:]}"
        write(f"{shown(each.path)}:{each.line}: {reason}. {each.step}")
    calls, files = count(found.changes, "call"), count(len(found.files), "file")
    if not found.files:
        write(("\n" + _("Nothing to change.")) if found.listed else _("Nothing to change."))
    elif is_written:
        write(
            "\n"
            + _("%(calls)s changed in %(files)s. %(next)s")
            % {"calls": calls, "files": files, "next": _NEXT[to]}
        )
    else:
        write(
            "\n"
            + _("%(calls)s would change in %(files)s. Add --write to write them.")
            % {"calls": calls, "files": files}
        )


_NEXT = {
    "task": gettext_lazy("Run your tests. A worker with the queue outbox sends the tasks."),
    "event": (
        gettext_lazy(
            "Name the events for the facts that they state, then run "
            "`manage.py outbox catalogue` and `manage.py migrate`. A handler "
            "has a time limit: set lease= for a long one."
        )
    ),
}


def _warn_of_changes(paths: Sequence[Path], write: Write) -> None:
    """Warn of files with changes that are not committed: git cannot separate both changes."""
    git = shutil.which("git")
    known = [str(one.resolve()) for one in paths if one.exists()]
    if git is None or not known:
        return
    done = subprocess.run(
        [git, "status", "--porcelain", "--untracked-files=no", "--", *known],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(known[0]).parent,
    )
    for line in done.stdout.splitlines():
        write(_("Warning: %(line)s had changes that are not committed.") % {"line": line[3:]})
