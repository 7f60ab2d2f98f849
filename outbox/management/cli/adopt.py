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

from .common import Options, Write, count

if TYPE_CHECKING:
    from outbox.adoption.adoption import Adoption


class Adopt:
    """Change code that sends Celery tasks with a transaction, so that the outbox stores them."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the paths, --to, --write, --atomic-requests and --check."""
        parser.add_argument("paths", nargs="+", metavar="PATH", help="a folder or a Python file")
        parser.add_argument(
            "--to",
            choices=["task", "event"],
            default="task",
            help="a task with the base OutboxTask (default), or an event with a handler",
        )
        parser.add_argument(
            "--write", action="store_true", help="write the files; otherwise print the diff"
        )
        parser.add_argument(
            "--atomic-requests",
            action="store_true",
            help="views are in a transaction, as with ATOMIC_REQUESTS",
        )
        parser.add_argument(
            "--check", action="store_true", help="exit with status 1 if anything is left to do"
        )

    def run(self, options: Options, write: Write) -> None:
        """Print or write the changes, then list the calls that a person must change."""
        if find_spec("libcst") is None:
            raise CommandError('The subcommand adopt needs libcst (extra "adopt").')
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
        write(f"{shown(one.path)} is written." if is_written else one.diff().rstrip("\n"))
    if found.listed:
        write(f"\n{count(len(found.listed), 'call')} to change by hand:\n")
    for each in found.listed:
        reason = f"{each.reason[0].upper()}{each.reason[1:]}"
        write(f"{shown(each.path)}:{each.line}: {reason}. {each.step}")
    calls, files = count(found.changes, "call"), count(len(found.files), "file")
    if not found.files:
        write("\nNothing to change." if found.listed else "Nothing to change.")
    elif is_written:
        write(f"\n{calls} changed in {files}. {_NEXT[to]}")
    else:
        write(f"\n{calls} would change in {files}. Add --write to write them.")


_NEXT = {
    "task": "Run your tests. A worker with the queue outbox sends the tasks.",
    "event": (
        "Name the events for the facts that they state, then run `manage.py outbox catalogue` and "
        "`manage.py migrate`. A handler has a time limit: set lease= for a long one."
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
        write(f"Warning: {line[3:]} had changes that are not committed.")
