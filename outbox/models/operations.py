"""Operations of staff on the outbox, with their reasons."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .rows import Row


class Operation(Row):
    """An operation of staff: its action, its choice of rows, its reason and its progress.

    A long operation works in small transactions. Each one changes rows and moves `cursor` past
    them. So a killed operation continues at its cursor, and touches no row twice.
    """

    class Action(models.TextChoices):
        """The kind of an operation."""

        RETRY = "retry", _("retry")
        DISCARD = "discard", _("discard")
        REPLAY = "replay", _("replay")
        BACKFILL = "backfill", _("backfill")
        PAUSE = "pause", _("pause")
        RESUME = "resume", _("resume")
        END = "end", _("end")
        PRUNE = "prune", _("prune")
        REDACT = "redact", _("redact")
        CORRECT = "correct", _("correct")
        CLOSE_BREAKER = "close_breaker", _("close the breaker")

    class State(models.TextChoices):
        """The state of an operation."""

        RUNNING = "running", _("running")
        FINISHED = "finished", _("finished")
        GIVEN_UP = "given_up", _("given up")

    id = models.BigAutoField(primary_key=True)
    action = models.CharField(_("action"), max_length=20, choices=Action.choices)
    choice = models.JSONField(_("choice"), default=dict, help_text=_("Selection of the rows."))
    reason = models.TextField(_("reason"), blank=True)
    by = models.CharField(_("by"), max_length=150)
    state = models.CharField(
        _("state"), max_length=10, choices=State.choices, default=State.RUNNING
    )
    started_at = models.DateTimeField(_("started at"))
    seen_at = models.DateTimeField(_("last heartbeat"))
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    expected = models.PositiveIntegerField(_("expected rows"), default=0)
    touched = models.PositiveIntegerField(_("changed rows"), default=0)
    cursor = models.BigIntegerField(_("cursor"), default=0)
    until = models.BigIntegerField(
        _("until"), default=0, help_text=_("The last row that existed at the start.")
    )
    rate = models.FloatField(_("maximum of rows per second"), null=True, blank=True)

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        indexes = [
            models.Index(
                fields=["id"], condition=Q(state="running"), name="outbox_operation_running"
            ),
        ]

    def __str__(self) -> str:
        return gettext("%(number)s: %(action)s by %(by)s") % {
            "number": self.pk,
            "action": self.get_action_display(),
            "by": self.by,
        }
