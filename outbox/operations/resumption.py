"""Continue an operation whose process was killed, or give it up."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from outbox import clock, databases
from outbox.models import Operation
from outbox.privacy.redaction import Redaction

from . import backfills, progress
from .bulk import ELIGIBLE, BulkTask
from .handlers import end
from .progress import Report, Task, carry_out
from .removal import redact
from .selection import Choice

logger = logging.getLogger("outbox.operations")

Action = Operation.Action

#: A running operation updates `seen_at` more often than this.
ABANDONED_AFTER = timedelta(minutes=1)


class NotRunning(LookupError):
    """There is no such operation, or it is over."""


class NotAllRedacted(Exception):
    """A redaction has ended and left events alone. Repeat it later; nothing else does.

    Attributes:
        operation: its record.
        redaction: its result.
    """

    def __init__(self, operation: Operation, redaction: Redaction) -> None:
        self.operation, self.redaction = operation, redaction
        text = _("Operation %(number)d (%(action)s) has left events alone. Repeat it.")
        super().__init__(text % {"number": operation.pk, "action": operation.action})


def unfinished(*, using: str | None = None) -> QuerySet[Operation]:
    """Return unfinished operations that no process carries out any more."""
    using = using or databases.alias()
    running = Operation.objects.using(using).filter(state=Operation.State.RUNNING)
    return running.filter(seen_at__lt=clock.now(using=using) - ABANDONED_AFTER).order_by("id")


def next_step(operation: Operation) -> str:
    """Return the commands that finish or end an operation, and whether handlers run again."""
    text = _("Run the same `manage.py outbox %(action)s` again. %(end)s")
    if _can_continue(operation):
        text = _(
            "Finish it: `manage.py outbox continue %(number)d`. It changes no row a second time, "
            "so no handler runs again because of it. %(end)s"
        )
    end = _("Or end it, the rest undone: `manage.py outbox continue %(number)d --give-up`.")
    facts = {"number": operation.pk, "action": operation.action.replace("_", "-")}
    return text % {**facts, "end": end % facts}


def _can_continue(operation: Operation) -> bool:
    return operation.action in {*ELIGIBLE, Action.BACKFILL, Action.END, Action.REDACT}


def continue_operation(
    number: int, *, by: str, report: Report | None = None, using: str | None = None
) -> Operation:
    """Carry out the rest of an operation. Two processes that do so at once share the work.

    Raises:
        NotRunning: there is no such operation, it is over, or only its own command continues it.
        CannotBackfill: the backfill would break the order of a key now.
        NotAllRedacted: the redaction has ended, and has left events alone.
        GivenUp: a person has given the redaction up.
    """
    using = using or databases.alias()
    operation = _running(number, using=using)
    logger.info("%s continues operation %d", by, number)
    if operation.action == Action.END:
        own = {"by": operation.by, "reason": operation.reason}
        return end(**operation.choice, **own, report=report, using=using)
    if operation.action == Action.REDACT:  # `recorded` continues the same row
        done = redact(**operation.choice, by=operation.by, reason=operation.reason, using=using)
        operation.refresh_from_db(using=using)
        if not done.is_complete:
            raise NotAllRedacted(operation, done)
        return operation
    if operation.action == Action.BACKFILL:
        task = backfills.Backfill.of(operation, using=using)
        return task.carry_out(operation, report=report)
    return carry_out(operation, _task(operation, using=using), report=report, using=using)


def give_up(number: int, *, by: str, using: str | None = None) -> Operation:
    """Give up the rest of an operation. A running one stops at its next step.

    One without steps, such as a prune, stops at its next heartbeat.

    Raises:
        NotRunning: there is no such operation, or it is over.
    """
    using = using or databases.alias()
    with transaction.atomic(using=using):
        operation = _running(number, using=using)
        progress.give_up(operation, using=using)
        if operation.action == Action.BACKFILL:
            backfills.Backfill.of(operation, using=using).finish(operation)
    operation.refresh_from_db(using=using)
    logger.info("%s gave up operation %d", by, number)
    return operation


def _running(number: int, *, using: str) -> Operation:
    found = Operation.objects.using(using).filter(pk=number).first()
    if found is None:
        text = _("Operation %(number)s does not exist. See `manage.py outbox log`.")
        raise NotRunning(text % {"number": number})
    if found.state != Operation.State.RUNNING:
        facts = {"number": number, "state": found.get_state_display()}
        raise NotRunning(_("Operation %(number)s has ended: %(state)s.") % facts)
    return found


def _task(operation: Operation, *, using: str) -> Task:
    action = operation.action
    if action not in ELIGIBLE:  # its choice is not of deliveries
        text = _("Operation %(number)s (%(action)s) cannot be continued. Run its command again.")
        raise NotRunning(text % {"number": operation.pk, "action": action})
    return BulkTask(action, Choice.from_json(operation.choice), using)
