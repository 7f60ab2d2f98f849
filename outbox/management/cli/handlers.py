"""Subcommands that change a whole handler: pause, resume, close-breaker and end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import ArgumentParser

from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from outbox import operations
from outbox.models import Operation
from outbox.monitor.stops import backfill_stop
from outbox.operations.handler_rows import end_choice

from .common import Options, Write, count, operator
from .errors import explained_interrupt
from .filters import refuse_unknown_handler
from .running import (
    Progress,
    add_operation_options,
    given_up,
    reason_of,
    summary,
    write_preview,
)


class HandlerSubcommand(ABC):
    """Base of the subcommands that change one handler: `preview` shows, `change` changes it."""

    action = ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the handler, the reason and --dry-run."""
        parser.add_argument("handler", metavar="HANDLER", help=_("its pinned name: app.function"))
        add_operation_options(parser)

    def run(self, options: Options, write: Write) -> None:
        """Change the handler, or preview that."""
        refuse_unknown_handler(options["handler"])
        if options["dry_run"]:
            self.preview(options, write)
        else:
            self.change(options["handler"], options, write)

    def preview(self, options: Options, write: Write) -> None:
        """Write the deliveries that the change concerns."""
        choice = operations.Choice(handler=options["handler"])
        write_preview(operations.preview(self.action, choice), write)

    @abstractmethod
    def change(self, handler: str, options: Options, write: Write) -> None:
        """Change the handler, and write the result."""


class Pause(HandlerSubcommand):
    """Pause a handler: no delivery starts, and its deliveries are parked."""

    action = "pause"

    def run(self, options: Options, write: Write) -> None:
        """Pause the handler, or preview that; refuse it if its subscriptions have ended."""
        try:
            super().run(options, write)
        except operations.HandlerEnded as error:
            raise CommandError(str(error)) from error

    def change(self, handler: str, options: Options, write: Write) -> None:
        """Pause the handler."""
        changed = operations.pause(handler, by=operator(), reason=reason_of(options))
        if not changed:
            write(
                _("%(handler)s is already paused. The earlier reason stays.") % {"handler": handler}
            )
            return
        backfill = operations.held_by(handler)
        if backfill is not None:
            held = backfill_stop(handler, number=backfill.pk, seen_at=backfill.seen_at)
            write(_("%(handler)s is paused. %(text)s") % {"handler": handler, "text": held.text})
            return
        write(
            _("%(handler)s is paused. To resume it: `manage.py outbox resume %(handler)s`.")
            % {"handler": handler}
        )


class Resume(HandlerSubcommand):
    """Resume a paused or ended handler, the oldest delivery first."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the handler, --force, the reason and --dry-run."""
        super().add_arguments(parser)
        parser.add_argument(
            "--force",
            action="store_true",
            help=_("also during its backfill: new events of a key overtake old ones"),
        )

    def run(self, options: Options, write: Write) -> None:
        """Resume the handler, or preview that; refuse it during a backfill without --force."""
        try:
            super().run(options, write)
        except operations.HeldByBackfill as error:
            raise CommandError(str(error)) from error

    def preview(self, options: Options, write: Write) -> None:
        """Write the parked deliveries."""
        choice = operations.Choice(handler=options["handler"])
        write_preview(operations.preview("resume", choice, force=options["force"]), write)

    def change(self, handler: str, options: Options, write: Write) -> None:
        """Resume the handler."""
        force = options["force"]
        backfill = operations.held_by(handler) if force else None
        reason = reason_of(options, required=False)
        changed = operations.resume(handler, by=operator(), reason=reason, force=force)
        rest = ""
        if backfill is not None:
            rest = " " + _(
                "Its backfill, operation %(pk)s, creates no more deliveries. End "
                "it: `manage.py outbox continue %(pk)s --give-up`. Then start a "
                "backfill of the missing events."
            ) % {"pk": backfill.pk}
        text = _("%(handler)s is resumed.") if changed else _("%(handler)s is not paused.")
        write(text % {"handler": handler} + rest)


class CloseBreaker(HandlerSubcommand):
    """Close a handler's open breaker at once, without waiting for a probe."""

    action = "close_breaker"

    def preview(self, options: Options, write: Write) -> None:
        """Write the pending deliveries, if a breaker is open."""
        handler = options["handler"]
        if not operations.subscriptions_of(handler).exclude(breaker_opened_at=None).exists():
            raise _no_breaker(handler)
        super().preview(options, write)

    def change(self, handler: str, options: Options, write: Write) -> None:
        """Close the breaker."""
        if not operations.close_breaker(handler, by=operator(), reason=reason_of(options)):
            raise _no_breaker(handler)
        write(
            _(
                "The breaker of %(handler)s is closed. The first messages carry "
                "few deliveries, and the breaker opens again if they fail."
            )
            % {"handler": handler}
        )


def _no_breaker(handler: str) -> CommandError:
    return CommandError(_("%(handler)s has no open breaker.") % {"handler": handler})


class End(HandlerSubcommand):
    """End a handler's subscriptions, or one of them, and discard their owed deliveries."""

    action = "end"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the handler, --event, the reason and --dry-run."""
        super().add_arguments(parser)
        parser.add_argument(
            "--event",
            default="",
            metavar="EVENT",
            help=_("only its subscription to this event, or to this list of events"),
        )

    def run(self, options: Options, write: Write) -> None:
        """End the subscriptions, or preview that."""
        try:
            super().run(options, write)
        except operations.UnknownSubscription as error:
            raise CommandError(str(error)) from error

    def preview(self, options: Options, write: Write) -> None:
        """Write the deliveries that would be discarded."""
        choice = operations.Choice(handler=options["handler"], subscription=options["event"])
        write_preview(operations.preview("end", choice), write)

    def change(self, handler: str, options: Options, write: Write) -> None:
        """End the subscriptions."""
        reason, event = reason_of(options), options["event"]
        with explained_interrupt("end", end_choice(handler, event)):
            done = operations.end(
                handler, event=event, by=operator(), reason=reason, report=Progress(write)
            )
        discarded = count(done.touched, "delivery", "deliveries")
        if done.state == Operation.State.GIVEN_UP:
            text = _(
                "The subscriptions have ended, and their other deliveries are still owed. To "
                "discard them, run the same command again."
            )
            raise CommandError(f"{given_up(done, discarded)} {text}")
        text = _(
            "The subscriptions of %(handler)s have ended. %(discarded)s discarded. %(summary)s"
        )
        if event:
            text = _(
                "The subscription of %(handler)s to %(event)s has ended. %(discarded)s discarded. "
                "%(summary)s"
            )
        facts = {"handler": handler, "event": event, "discarded": discarded}
        write(text % {**facts, "summary": summary(done)})
