"""`manage.py outbox`: inspect and operate the outbox from a terminal."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _

from outbox.management import cli
from outbox.management.cli import errors, in_databases


class Command(BaseCommand):
    help = "Inspects and operates the outbox."
    requires_system_checks = []  # during an outage a command must not wait for all checks

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the subcommands, and the arguments of each."""
        subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
        vars(parser)["suggest_on_error"] = True  # the default from Python 3.14 on
        for name, subcommand in cli.SUBCOMMANDS.items():
            summary = (subcommand.__doc__ or "").splitlines()[0]
            own = subparsers.add_parser(name, help=summary, description=summary)
            subcommand.add_arguments(own)
            in_databases.add_database(own, name)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand; raise `CommandError` if it fails."""
        try:
            name = options["subcommand"]
            with errors.ending_unread(self.stdout) as write:
                in_databases.run_in_databases(name, cli.SUBCOMMANDS[name], options, write)
        except errors.EXPLAINED as error:
            text = errors.explained(error)
            if not text:  # an error of the code: show its traceback
                raise
            raise CommandError(text) from error
        except KeyboardInterrupt:
            text = _("Interrupted. `manage.py outbox log` lists the operations and their progress.")
            raise CommandError(text, returncode=errors.INTERRUPTED) from None
