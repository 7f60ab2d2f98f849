"""What people did to the outbox, and why."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from .rows import Row


class Operation(Row):
    """What a person did to the outbox: which action, on what, why, and how far it has come.

    A long action works in small transactions, each of which moves `cursor` along with what it
    touches. So one that was killed goes on where it was, and touches nothing twice.
    """

    class Action(models.TextChoices):
        """What was done."""

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
        """How far it is."""

        RUNNING = "running", _("running")
        FINISHED = "finished", _("finished")
        GIVEN_UP = "given_up", _("given up")

    id = models.BigAutoField(primary_key=True)
    action = models.CharField(_("action"), max_length=20, choices=Action.choices)
    choice = models.JSONField(_("choice"), default=dict, help_text=_("What it was to touch."))
    reason = models.TextField(_("reason"), blank=True)
    by = models.CharField(_("by"), max_length=150)
    state = models.CharField(
        _("state"), max_length=10, choices=State.choices, default=State.RUNNING
    )
    started_at = models.DateTimeField(_("started at"))
    seen_at = models.DateTimeField(_("last sign of life"))
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    expected = models.PositiveIntegerField(_("expected"), default=0)
    touched = models.PositiveIntegerField(_("touched"), default=0)
    cursor = models.BigIntegerField(_("cursor"), default=0)
    until = models.BigIntegerField(
        _("until"), default=0, help_text=_("The last row that was there when it began.")
    )
    rate = models.FloatField(_("most in a second"), null=True, blank=True)

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        indexes = [
            models.Index(
                fields=["id"], condition=Q(state="running"), name="outbox_operation_running"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pk}: {self.action} by {self.by}"
