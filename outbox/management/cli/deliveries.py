"""Subcommands that change deliveries: of a choice (retry ...) or of a whole handler (pause ...)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import ArgumentParser
from dataclasses import replace

from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from outbox import databases, operations
from outbox.models import Delivery
from outbox.monitor.stops import backfill_stop
from outbox.operations import backfills
from outbox.operations.dry_run import CannotDryRun, DryRun, dry_run
from outbox.operations.handler_rows import end_choice

from .common import Options, Write, count, operator
from .errors import explained_interrupt
from .filters import (
    add_choice,
    add_event_choice,
    choice_of,
    narrow_choice,
    refuse_unknown_handler,
)
from .running import (
    Progress,
    add_operation_options,
    carry_out,
    reason_of,
    summary,
    write_preview,
)

_TRIED = 5


class Retry:
    """Make deliveries due now: dead ones, those in backoff, and those left parked."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the filters of deliveries."""
        add_choice(parser)
        parser.add_argument("--dead", action="store_true", help=_("only dead deliveries"))
        add_operation_options(parser, rate=operations.RATE)

    def run(self, options: Options, write: Write) -> None:
        """Retry the chosen deliveries, and write their number."""
        choice = self._choice(options)
        if options["dry_run"]:
            write_preview(operations.preview("retry", choice), write)
            return
        carry_out(
            operations.retry, choice, options, write,
            done=_("made due"), nothing=self._nothing(options), needs_reason=False,
        )  # fmt: skip

    def _choice(self, options: Options) -> operations.Choice:
        if options["dead"]:
            return replace(choice_of(options), states=(Delivery.State.DEAD.value,))
        return narrow_choice(options, last="--dead")

    def _nothing(self, options: Options) -> str:
        if len(options["id"]) == 1:
            return _("Nothing to retry: see `manage.py outbox why %(id)s`.") % {
                "id": options["id"][0]
            }
        return _("Nothing to retry: no chosen delivery is dead, in backoff, or left parked.")


class Discard:
    """Settle deliveries that are no longer needed, without running their handler."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the filters of deliveries."""
        add_choice(parser)
        add_operation_options(parser, rate=operations.RATE)

    def run(self, options: Options, write: Write) -> None:
        """Discard the chosen deliveries, and write their number."""
        choice = narrow_choice(options, last="--state")
        if options["dry_run"]:
            write_preview(operations.preview("discard", choice), write)
            return
        nothing = _("Nothing to discard: settled and sent deliveries are not changed.")
        carry_out(operations.discard, choice, options, write, done="discarded", nothing=nothing)


class Replay:
    """Run the handlers of settled deliveries again."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the filters of deliveries, and --show-writes."""
        add_choice(parser)
        parser.add_argument(
            "--show-writes",
            action="store_true",
            help=_("with --dry-run: run the handler for the first few, show its writes, roll back"),
        )
        add_operation_options(parser, rate=operations.RATE)

    def run(self, options: Options, write: Write) -> None:
        """Replay the chosen deliveries, and write their number."""
        choice = narrow_choice(options, last="--event")
        if options["show_writes"] and not options["dry_run"]:
            raise CommandError(_("--show-writes requires --dry-run."))
        if options["dry_run"]:
            self._preview(choice, write, show_writes=options["show_writes"])
            return
        nothing = _("Nothing to replay: only done and discarded deliveries can be replayed.")
        carry_out(
            operations.replay, choice, options, write, done=_("made due again"), nothing=nothing
        )

    def _preview(self, choice: operations.Choice, write: Write, *, show_writes: bool) -> None:
        write_preview(operations.preview("replay", choice), write)
        if not show_writes:
            return
        for row in operations.replayable(choice.deliveries()).order_by("pk")[:_TRIED]:
            try:
                _write_dry_run(dry_run(row.pk), write)
            except Delivery.DoesNotExist:
                continue  # pruned since it was listed
            except CannotDryRun as error:
                raise CommandError(str(error)) from error


class Backfill:
    """Create a handler's missing deliveries of events from before its subscription."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the handler, and the filters of its events."""
        parser.add_argument("handler", metavar="HANDLER", help=_("its pinned name: app.function"))
        add_event_choice(parser)
        parser.add_argument(
            "--out-of-order",
            action="store_true",
            help=_("for an ordered handler: include events older than handled ones of their key"),
        )
        add_operation_options(parser, rate=operations.BACKFILL_RATE)

    def run(self, options: Options, write: Write) -> None:
        """Backfill, and write the number of deliveries."""
        choice, in_order = choice_of(options), not options["out_of_order"]
        if options["dry_run"]:
            write_preview(operations.preview("backfill", choice), write)
            return
        reason = reason_of(options)
        try:
            stored = backfills.Backfill(choice, databases.alias(), in_order=in_order).stored
            with explained_interrupt("backfill", stored):
                done = operations.backfill(
                    choice,
                    by=operator(),
                    reason=reason,
                    rate=options["rate"],
                    in_order=in_order,
                    report=Progress(write),
                )
        except (operations.CannotBackfill, operations.UnknownHandler) as error:
            raise CommandError(str(error)) from error
        write(
            _("%(counted)s created. %(summary)s")
            % {"counted": count(done.touched, "delivery", "deliveries"), "summary": summary(done)}
        )


def _write_dry_run(found: DryRun, write: Write) -> None:
    write(
        _("delivery %(delivery_id)s of %(handler)s, run and rolled back:")
        % {"delivery_id": found.delivery_id, "handler": found.handler}
    )
    for line in (
        *found.writes,
        *(_("emits %(event)s") % {"event": event} for event in found.events),
    ):
        write(f"    {line}")
    if found.error:
        write("    " + _("raises %(error)s") % {"error": found.error})
    elif not found.writes and not found.events:
        write("    " + _("writes nothing and emits nothing"))


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

    def change(self, handler: str, options: Options, write: Write) -> None:
        """Close the breaker."""
        if not operations.close_breaker(handler, by=operator(), reason=reason_of(options)):
            raise CommandError(_("%(handler)s has no open breaker.") % {"handler": handler})
        write(
            _(
                "The breaker of %(handler)s is closed. The first messages carry "
                "few deliveries, and the breaker opens again if they fail."
            )
            % {"handler": handler}
        )


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
        text = _(
            "The subscriptions of %(handler)s have ended. %(discarded)s discarded. %(summary)s"
        )
        if event:
            text = _(
                "The subscription of %(handler)s to %(event)s has ended. %(discarded)s discarded. "
                "%(summary)s"
            )
        discarded = count(done.touched, "delivery", "deliveries")
        facts = {"handler": handler, "event": event, "discarded": discarded}
        write(text % {**facts, "summary": summary(done)})
