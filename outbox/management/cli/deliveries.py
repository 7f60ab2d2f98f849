"""Subcommands that change deliveries of a choice: retry, discard, replay and backfill."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace

from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from outbox import databases, operations
from outbox.models import Delivery
from outbox.operations import backfills
from outbox.operations.dry_run import CannotDryRun, DryRun, dry_run

from .common import Options, Write, count, operator
from .errors import explained_interrupt
from .filters import (
    add_choice,
    add_event_choice,
    choice_of,
    narrow_choice,
)
from .running import (
    Progress,
    add_operation_options,
    carry_out,
    reason_of,
    refuse_given_up,
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
            dead, states = Delivery.State.DEAD.value, options["state"] or ()
            if states and dead not in states:
                text = _("--dead and --state %(state)s exclude each other. Give one of them.")
                raise CommandError(text % {"state": states[0]})
            return replace(choice_of(options), states=(dead,))
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
        carry_out(operations.discard, choice, options, write, done=_("discarded"), nothing=nothing)


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
        task = backfills.Backfill(choice, databases.alias(), in_order=in_order)
        try:
            if options["dry_run"]:
                task.refuse()
                write_preview(operations.preview("backfill", choice), write)
                return
            reason = reason_of(options)
            with explained_interrupt("backfill", task.stored):
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
        refuse_given_up(done)
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
