"""Settlements that other systems owe this one, and reports that this system owes others."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .deliveries import Delivery
from .rows import Row


class Settlement(Row):
    """The settlement of one published event by one consumer, which a sink expects.

    The row is created with the receipt of the sink's delivery, or by a report that arrives before.
    A settlement that was reported stays settled, also after a replay of the delivery.
    """

    class State(models.TextChoices):
        """State of a settlement. An open one keeps the event from being pruned."""

        OPEN = "open", _("open")
        SETTLED = "settled", _("settled")
        MISSING = "missing", _("missing")
        WITHDRAWN = "withdrawn", _("withdrawn")

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(
        Delivery,
        models.CASCADE,
        related_name="settlements",
        db_index=False,
        verbose_name=_("delivery"),
    )
    # No foreign key: a consumer reports this id.
    event = models.UUIDField(_("event id"))
    consumer = models.CharField(_("consumer"), max_length=100)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.OPEN)
    due_at = models.DateTimeField(_("due at"))
    seconds = models.FloatField(_("seconds from the acknowledgement to the deadline"), default=0)
    most_replays = models.PositiveIntegerField(_("maximum of replays"), default=0)
    replays = models.PositiveIntegerField(
        _("replays"), default=0, help_text=_("Publications that a missed deadline has requested.")
    )
    settled_at = models.DateTimeField(_("settled at"), null=True, blank=True)

    class Meta:
        verbose_name = _("settlement")
        verbose_name_plural = _("settlements")
        constraints = [
            models.UniqueConstraint(fields=["delivery", "consumer"], name="outbox_settlement_once")
        ]
        # The first two contain no settled ones. So their size depends on open ones, not history.
        indexes = [
            models.Index(
                fields=["due_at"], condition=Q(state="open"), name="outbox_settlement_due"
            ),
            models.Index(
                fields=["consumer", "id"],
                condition=Q(state="missing"),
                name="outbox_settlement_missing",
            ),
            models.Index(fields=["event"], name="outbox_settlement_event"),
            models.Index(fields=["consumer", "id"], name="outbox_settlement_consumer"),
        ]

    def __str__(self) -> str:
        return gettext("%(event)s by %(consumer)s: %(state)s") % {
            "event": self.event,
            "consumer": self.consumer,
            "state": self.get_state_display(),
        }


class SettlementReport(Row):
    """A received event that is reported as settled once all its deliveries are.

    `event` is None for a message that was dropped: it has no deliveries. A requested replay of the
    message opens the report again, since the first one may be lost.
    """

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(_("source"), max_length=50)
    external_id = models.CharField(_("external id"), max_length=100)
    reported_id = models.CharField(
        _("reported id"), max_length=100, help_text=_("The event's id in the other system.")
    )
    consumer = models.CharField(
        _("consumer"), max_length=100, help_text=_("The name under which this system reports.")
    )
    event = models.UUIDField(_("event id"), null=True, blank=True)
    expected_at = models.DateTimeField(_("expected at"))
    check_at = models.DateTimeField(_("next check at"))
    reported_at = models.DateTimeField(_("reported at"), null=True, blank=True)
    replay = models.PositiveIntegerField(
        _("replay"), default=0, help_text=_("The number of the last replay that was received.")
    )

    class Meta:
        verbose_name = _("settlement report")
        verbose_name_plural = _("settlement reports")
        constraints = [
            models.UniqueConstraint(
                fields=["source", "external_id"], name="outbox_settlementreport_once"
            )
        ]
        indexes = [
            models.Index(
                fields=["check_at"],
                condition=Q(reported_at__isnull=True),
                name="outbox_settlementreport_due",
            ),
            models.Index(fields=["event"], name="outbox_settlementreport_event"),
        ]

    def __str__(self) -> str:
        return gettext("%(event)s by %(consumer)s") % {
            "event": self.reported_id,
            "consumer": self.consumer,
        }
