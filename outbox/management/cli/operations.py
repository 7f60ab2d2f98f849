"""Subcommands about recorded operations and old events: log, continue, prune and redact."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from datetime import timedelta

from django.core.management.base import CommandError
from django.forms.models import model_to_dict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox import databases, operations
from outbox.conf import conf
from outbox.formatting import format_time, one_line
from outbox.models import Operation
from outbox.monitor.people import names_of
from outbox.privacy import redaction
from outbox.privacy.all_tenants import unread_texts
from outbox.privacy.redaction import Redaction

from .common import (
    Options,
    Write,
    add_json,
    count,
    not_written,
    operator,
    table,
    write_json,
)
from .errors import interrupted
from .filters import parse_age
from .running import Progress, given_up, reason_of, refuse_given_up

_LOG_HEAD = ("NUMBER", "STARTED", "BY", "ACTION", "TOUCHED", "STATE", "CHOICE", "REASON")
_NOT_AGAIN = gettext_lazy("Rows that were changed before the interruption were not changed again.")


class Log:
    """List recorded operations: action, choice, user, reason and progress."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --last and --json."""
        parser.add_argument(
            "--last", type=int, default=20, metavar="N", help=_("number of operations (20)")
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
            write(_("No operation is recorded."))


class Continue:
    """Continue an operation whose process was killed, or give it up."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the operation's id, and --give-up."""
        parser.add_argument(
            "number", type=int, metavar="NUMBER", help=_("see `manage.py outbox log`")
        )
        parser.add_argument("--give-up", action="store_true", help=_("end it, the rest undone"))

    def run(self, options: Options, write: Write) -> None:
        """Continue the operation, or give it up."""
        number = options["number"]
        try:
            if options["give_up"]:
                done = operations.give_up(number, by=operator())
            else:
                done = operations.continue_operation(number, by=operator(), report=Progress(write))
        except (
            operations.NotRunning,
            operations.GivenUp,
            operations.CannotBackfill,
            operations.UnknownHandler,
            operations.UnknownSubscription,
        ) as error:
            raise CommandError(str(error)) from error
        except operations.NotAllRedacted as error:
            choice = error.operation.choice
            why = _why(choice["subject"], choice["keys"])
            texts = [_redacted(error.redaction, dry_run=False), *_left_texts(error.redaction, why)]
            raise CommandError(" ".join(texts)) from error
        except KeyboardInterrupt:
            row = Operation.objects.using(databases.alias()).filter(pk=number).first()
            is_running = row is not None and row.state == Operation.State.RUNNING
            raise interrupted(row if is_running else None) from None
        if not options["give_up"]:
            refuse_given_up(done)
        state = done.get_state_display()
        text = _(
            "Operation %(number)s (%(action)s) is %(state)s: %(touched)s touched in total."
        ) % {
            "number": number,
            "action": done.action,
            "state": state,
            "touched": f"{done.touched:,}",
        }
        is_redaction = done.action == Operation.Action.REDACT
        write(text if options["give_up"] or is_redaction else f"{text} {_NOT_AGAIN}")


class Prune:
    """Delete old events without owed deliveries, with their deliveries and attempts."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the age, the archive, the reason and --dry-run."""
        parser.add_argument(
            "--older-than",
            type=parse_age,
            metavar="AGE",
            help=_('for all event types: 30d, 12h or 90m; default: OUTBOX["RETENTION"]'),
        )
        parser.add_argument(
            "--archive",
            metavar="FOLDER",
            help=_('folder to which events are written first; default: OUTBOX["ARCHIVE"]'),
        )
        parser.add_argument("--reason", help=_("the reason, stored with the operation"))
        parser.add_argument("--dry-run", action="store_true", help=_("count the events to delete"))

    def run(self, options: Options, write: Write) -> None:
        """Prune, or count. Nothing to prune is no failure, since schedules call this."""
        how_old: timedelta | None = options["older_than"]
        if how_old is None and not conf().RETENTION:
            raise CommandError(_('No age given. Use --older-than AGE, or set OUTBOX["RETENTION"].'))
        if options["dry_run"]:
            number = operations.countable(older_than=how_old)
            write(
                _("%(counted)s would be deleted. Nothing was changed.")
                % {"counted": count(number, "event")}
            )
            return
        try:
            number = operations.prune(
                older_than=how_old,
                archive=options["archive"],
                by=operator(),
                reason=reason_of(options, required=False),
                raise_given_up=True,
            )
        except operations.GivenUp as error:
            counted = count(error.operation.touched, "event")
            raise CommandError(given_up(error.operation, counted)) from error
        except OSError as error:
            folder = conf().ARCHIVE if options["archive"] is None else options["archive"]
            text = _(
                "No event was deleted before it was archived. To continue the operation, run the "
                "command again."
            )
            raise CommandError(f"{not_written(folder, error)} {text}") from error
        write(
            _("%(counted)s deleted. Events with owed deliveries are never deleted.")
            % {"counted": count(number, "event")}
        )


class Redact:
    """Blank a person's data in stored events, and let every app blank its own data."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the subject or keys, the reason, --force and --dry-run."""
        parser.add_argument(
            "--subject", default="", help=_("the person, as in the events' subject: customer:7")
        )
        parser.add_argument(
            "--key", action="append", default=[], help=_("all events of this key; can be repeated")
        )
        parser.add_argument(
            "--reason", required=True, help=_("the reason, stored with the operation")
        )
        parser.add_argument(
            "--force", action="store_true", help=_("also owed events: their handlers read blanks")
        )
        parser.add_argument("--dry-run", action="store_true", help=_("count the events to blank"))

    def run(self, options: Options, write: Write) -> None:
        """Redact, or count. Fail if events are left, and name the command that shows them."""
        if not (options["subject"] or options["key"]):
            raise CommandError(_("No data chosen. Give --subject SUBJECT, or --key KEY."))
        wanted = {
            "subject": options["subject"],
            "keys": options["key"],
            "by": operator(),
            "reason": options["reason"],
            "force": options["force"],
        }
        if options["dry_run"]:
            planned = redaction.redact(**wanted, dry_run=True)
            write("\n".join([_redacted(planned, dry_run=True), *unread_texts(planned.unread)]))
            return
        wanted["reason"] = reason_of(options)
        try:
            done = operations.redact(**wanted)
        except operations.GivenUp as error:
            raise CommandError(str(error)) from error
        write(_redacted(done, dry_run=False))
        why = _why(options["subject"], options["key"])
        if options["subject"]:
            write(
                _(
                    "Each app erases its own rows, some of them later. Owed and "
                    "delayed events are listed by %(why)s."
                )
                % {"why": why}
            )
        if left := _left_texts(done, why):
            raise CommandError(" ".join(left))


def _log_row(row: Operation, names: Mapping[str, str]) -> tuple[object, ...]:
    return (
        row.pk,
        format_time(row.started_at),
        names.get(row.by, row.by),
        row.action,
        row.touched,
        row.get_state_display(),
        operations.described(row.choice),
        one_line(row.reason) or "-",
    )


def _why(subject: str, keys: Sequence[str]) -> str:
    """Return the command that explains the owed deliveries of a redaction's choice."""
    return f"`manage.py outbox why {shlex.quote(subject or keys[0])}`"


def _left_texts(done: Redaction, why: str) -> list[str]:
    return [*_owed_texts(done, why), *_unknown_texts(done), *unread_texts(done.unread)]


def _owed_texts(done: Redaction, why: str) -> list[str]:
    if not done.owed:
        return []
    return [
        _(
            "%(counted)s not blanked, because they are owed or delayed: see "
            "%(why)s. Run the command again when they are settled, or with "
            "--force. --force does not blank delayed events."
        )
        % {"counted": count(done.owed, "event"), "why": why}
    ]


def _unknown_texts(done: Redaction) -> list[str]:
    if not done.unknown:
        return []
    kinds = ", ".join(f"{kind} ({number:,})" for kind, number in sorted(done.unknown.items()))
    return [
        _(
            "%(counted)s not blanked, because this release has no schema that "
            "marks their sensitive fields: %(kinds)s. Run the command again "
            "with a release that has the event's class, or its entry in "
            "events.lock.json."
        )
        % {"counted": count(done.unknown.total(), "event"), "kinds": kinds}
    ]


def _redacted(done: Redaction, *, dry_run: bool) -> str:
    would = _("would be blanked") if dry_run else _("blanked")
    text = _("%(counted)s %(would)s; %(empty)s had nothing to blank, %(owed)s are still owed.") % {
        "counted": count(done.blanked, "event"),
        "would": would,
        "empty": f"{done.empty:,}",
        "owed": f"{done.owed:,}",
    }
    return " ".join([text, *(_unknown_texts(done) if dry_run else ())])
