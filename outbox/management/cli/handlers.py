"""Subcommands that change a whole handler: pause, resume, close-breaker and end."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.management.base import CommandError

from outbox import operations
from outbox.monitor.stops import backfill_stop

from .common import Options, Write, count, operator
from .errors import explained_interrupt
from .filters import refuse_unknown_handler
from .running import Progress, add_operation_options, reason_of, summary, write_preview


class HandlerSubcommand:
    """Base of the subcommands that change one handler: `preview` shows, `change` changes it."""

    action = ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the handler, the reason and --dry-run."""
        parser.add_argument("handler", metavar="HANDLER", help="its pinned name: app.function")
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

    def change(self, handler: str, options: Options, write: Write) -> None:
        """Change the handler, and write the result."""
        raise NotImplementedError


class Pause(HandlerSubcommand):
    """Pause a handler: no delivery starts, and its deliveries are parked."""

    action = "pause"

    def change(self, handler: str, options: Options, write: Write) -> None:
        """Pause the handler."""
        changed = operations.pause(handler, by=operator(), reason=reason_of(options))
        if not changed:
            write(f"{handler} is already paused. The earlier reason stays.")
            return
        backfill = operations.held_by(handler)
        if backfill is not None:
            held = backfill_stop(handler, number=backfill.pk, seen_at=backfill.seen_at)
            write(f"{handler} is paused. {held.text}")
            return
        write(f"{handler} is paused. To resume it: `manage.py outbox resume {handler}`.")


class Resume(HandlerSubcommand):
    """Resume a paused or ended handler, the oldest delivery first."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the handler, --force, the reason and --dry-run."""
        super().add_arguments(parser)
        parser.add_argument(
            "--force",
            action="store_true",
            help="also during its backfill: new events of a key overtake old ones",
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
            rest = (
                f" Its backfill, operation {backfill.pk}, creates no more deliveries. End it: "
                f"`manage.py outbox continue {backfill.pk} --give-up`. Then start a backfill of "
                "the missing events."
            )
        write(f"{handler} {'is resumed' if changed else 'is not paused'}.{rest}")


class CloseBreaker(HandlerSubcommand):
    """Close a handler's open breaker at once, without waiting for a probe."""

    action = "close_breaker"

    def change(self, handler: str, options: Options, write: Write) -> None:
        """Close the breaker."""
        if not operations.close_breaker(handler, by=operator(), reason=reason_of(options)):
            raise CommandError(f"{handler} has no open breaker.")
        write(
            f"The breaker of {handler} is closed. The first messages carry few deliveries, and the "
            "breaker opens again if they fail."
        )


class End(HandlerSubcommand):
    """End a handler's subscriptions and discard its owed deliveries."""

    action = "end"

    def change(self, handler: str, options: Options, write: Write) -> None:
        """End the subscriptions."""
        reason = reason_of(options)
        with explained_interrupt("end", {"handler": handler}):
            done = operations.end(handler, by=operator(), reason=reason, report=Progress(write))
        discarded = count(done.touched, "delivery", "deliveries")
        write(f"The subscriptions of {handler} have ended. {discarded} discarded. {summary(done)}")
