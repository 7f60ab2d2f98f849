"""Subcommands about recorded operations and old events: log, continue, prune and redact."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from collections.abc import Mapping
from datetime import timedelta

from django.core.management.base import CommandError
from django.forms.models import model_to_dict

from outbox import databases, operations
from outbox.conf import conf
from outbox.formatting import format_time, one_line
from outbox.models import Operation
from outbox.monitor.people import names_of
from outbox.privacy import redaction
from outbox.privacy.redaction import Redaction

from .common import Options, Write, add_json, count, operator, table, write_json
from .errors import interrupted
from .filters import parse_age
from .running import Progress, reason_of

_LOG_HEAD = ("NUMBER", "STARTED", "BY", "ACTION", "TOUCHED", "STATE", "CHOICE", "REASON")
_NOT_AGAIN = (
    "It did not change the rows again that it had changed before, so no handler runs again because "
    "of it."
)


class Log:
    """List recorded operations: action, choice, user, reason and progress."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --last and --json."""
        parser.add_argument(
            "--last", type=int, default=20, metavar="N", help="number of operations (20)"
        )
        add_json(parser)

    def run(self, options: Options, write: Write) -> None:
        """Write the latest operations, the newest last."""
        newest = Operation.objects.order_by("-id")[: max(0, options["last"])]
        rows = list(newest)[::-1]
        if options["json"]:
            write_json([{**model_to_dict(row), "id": row.pk} for row in rows], write)
        elif rows:
            names = names_of(row.by for row in rows)
            write(table(_LOG_HEAD, [_log_row(row, names) for row in rows]))
        else:
            write("No operation is recorded.")


class Continue:
    """Continue an operation whose process was killed, or give it up."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the operation's id, and --give-up."""
        parser.add_argument("number", type=int, metavar="NUMBER", help="see `manage.py outbox log`")
        parser.add_argument("--give-up", action="store_true", help="end it, the rest undone")

    def run(self, options: Options, write: Write) -> None:
        """Continue the operation, or give it up."""
        number = options["number"]
        try:
            if options["give_up"]:
                done = operations.give_up(number, by=operator())
            else:
                done = operations.continue_operation(number, by=operator(), report=Progress(write))
        except (
            operations.NotRunning, operations.CannotBackfill, operations.UnknownHandler
        ) as error:  # fmt: skip
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            row = Operation.objects.using(databases.alias()).filter(pk=number).first()
            is_running = row is not None and row.state == Operation.State.RUNNING
            raise interrupted(row if is_running else None) from None
        state = done.get_state_display()
        text = f"Operation {number} ({done.action}) is {state}: {done.touched:,} touched in total."
        write(text if options["give_up"] else f"{text} {_NOT_AGAIN}")


class Prune:
    """Delete old events without owed deliveries, with their deliveries and attempts."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the age, the archive, the reason and --dry-run."""
        parser.add_argument(
            "--older-than",
            type=parse_age,
            metavar="AGE",
            help='for all event types: 30d, 12h or 90m; default: OUTBOX["RETENTION"]',
        )
        parser.add_argument(
            "--archive",
            metavar="FOLDER",
            help='folder to which events are written first; default: OUTBOX["ARCHIVE"]',
        )
        parser.add_argument("--reason", help="the reason, stored with the operation")
        parser.add_argument("--dry-run", action="store_true", help="count the events to delete")

    def run(self, options: Options, write: Write) -> None:
        """Prune, or count. Nothing to prune is no failure, since schedules call this."""
        how_old: timedelta | None = options["older_than"]
        if how_old is None and not conf().RETENTION:
            raise CommandError('No age given. Use --older-than AGE, or set OUTBOX["RETENTION"].')
        if options["dry_run"]:
            number = operations.countable(older_than=how_old)
            write(f"{count(number, 'event')} would be deleted. Nothing was changed.")
            return
        number = operations.prune(
            older_than=how_old,
            archive=options["archive"],
            by=operator(),
            reason=reason_of(options, required=False),
        )
        write(f"{count(number, 'event')} deleted. Events with owed deliveries are never deleted.")


class Redact:
    """Blank a person's data in stored events, and let every app blank its own data."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the subject or keys, the reason, --force and --dry-run."""
        parser.add_argument(
            "--subject", default="", help="the person, as in the events' subject: customer:7"
        )
        parser.add_argument(
            "--key", action="append", default=[], help="all events of this key; can be repeated"
        )
        parser.add_argument("--reason", required=True, help="the reason, stored with the operation")
        parser.add_argument(
            "--force", action="store_true", help="also owed events: their handlers read blanks"
        )
        parser.add_argument("--dry-run", action="store_true", help="count the events to blank")

    def run(self, options: Options, write: Write) -> None:
        """Redact, or count. Fail if events are left, and name the command that shows them."""
        if not (options["subject"] or options["key"]):
            raise CommandError("No data chosen. Give --subject SUBJECT, or --key KEY.")
        wanted = {
            "subject": options["subject"],
            "keys": options["key"],
            "by": operator(),
            "reason": options["reason"],
            "force": options["force"],
        }
        if options["dry_run"]:
            write(_redacted(redaction.redact(**wanted, dry_run=True), dry_run=True))
            return
        done = operations.redact(**wanted)
        write(_redacted(done, dry_run=False))
        why = f"`manage.py outbox why {shlex.quote(options['subject'] or options['key'][0])}`"
        if options["subject"]:
            write(
                "Each app erases its own rows, some of them later. Owed and delayed events are "
                f"listed by {why}."
            )
        if left := [*_owed_texts(done, why), *_unknown_texts(done)]:
            raise CommandError(" ".join(left))


def _log_row(row: Operation, names: Mapping[str, str]) -> tuple[object, ...]:
    return (
        row.pk,
        format_time(row.started_at),
        names.get(row.by, row.by),
        row.action,
        row.touched,
        row.state.replace("_", " "),
        operations.described(row.choice),
        one_line(row.reason) or "-",
    )


def _owed_texts(done: Redaction, why: str) -> list[str]:
    if not done.owed:
        return []
    return [
        f"{count(done.owed, 'event')} not blanked, because they are owed or delayed: see {why}. "
        "Run the command again when they are settled, or with --force. --force does not blank "
        "delayed events."
    ]


def _unknown_texts(done: Redaction) -> list[str]:
    if not done.unknown:
        return []
    kinds = ", ".join(f"{kind} ({number:,})" for kind, number in sorted(done.unknown.items()))
    return [
        f"{count(done.unknown.total(), 'event')} not blanked, because this release has no schema "
        f"that marks their sensitive fields: {kinds}. Run the command again with a release that "
        "has the event's class, or its entry in events.lock.json."
    ]


def _redacted(done: Redaction, *, dry_run: bool) -> str:
    would = "would be blanked" if dry_run else "blanked"
    text = (
        f"{count(done.blanked, 'event')} {would}; {done.empty:,} had nothing to blank, "
        f"{done.owed:,} are still owed."
    )
    return " ".join([text, *(_unknown_texts(done) if dry_run else ())])
