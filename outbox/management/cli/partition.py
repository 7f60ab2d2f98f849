"""The subcommand partition."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from outbox import databases
from outbox.partitions.catalogue import UnknownPartition
from outbox.partitions.conversion import CannotPartition, convert, steps
from outbox.partitions.refusal import NotYetPartitioned
from outbox.partitions.room import endless

from .common import Options, Write


class Partition:
    """Convert events and deliveries into partitions of a day, or create those of the next days."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --dry-run."""
        parser.add_argument(
            "--dry-run", action="store_true", help=_("list the steps, and change nothing")
        )

    def run(self, options: Options, write: Write) -> None:
        """Convert the tables, or list the steps.

        Raises:
            CommandError: the tables cannot be converted, or have a partition of somebody else.
        """
        using = databases.alias()
        if warning := endless():
            write(warning)
        try:
            if options["dry_run"]:
                _list(using, write)
                return
            convert(using=using, report=write)
        except CannotPartition as refused:
            text = _("The tables were not changed.")
            if isinstance(refused, NotYetPartitioned):
                text = _("The tables are not partitioned yet. Their new indexes and checks stay.")
            raise CommandError(f"{text}\n{refused}") from refused
        except UnknownPartition as unknown:
            raise CommandError(str(unknown)) from unknown
        write(_("Events and deliveries are in partitions of a day."))


def _list(using: str, write: Write) -> None:
    for step in steps(using=using):
        mark = _("done") if step.is_done() else _("to do")
        write(f"{mark}: {step.text}")
