"""Alerts: problems that were found, their messages by channel, and claims of the sending process.

No row refers to events or deliveries, so they are pruned without regard to alerts.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from .rows import Row


class Alert(Row):
    """A problem, from the check that found it until checks no longer find it."""

    id = models.BigAutoField(primary_key=True)
    problem = models.CharField(
        _("problem"), max_length=200, help_text=_("The same for each check that finds it.")
    )
    trigger = models.CharField(_("trigger"), max_length=20)
    text = models.TextField(_("text"), help_text=_("As the latest check found it."))
    path = models.CharField(_("admin page"), max_length=500, blank=True)
    opened_at = models.DateTimeField(_("opened at"))
    seen_at = models.DateTimeField(
        _("seen at"), help_text=_("Time of the latest check that found it.")
    )
    resolved_at = models.DateTimeField(_("resolved at"), null=True, blank=True)

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        constraints = [
            models.UniqueConstraint(
                fields=["problem"], condition=Q(resolved_at__isnull=True), name="outbox_alert_open"
            )
        ]
        indexes = [
            models.Index(
                fields=["resolved_at"],
                condition=Q(resolved_at__isnull=False),
                name="outbox_alert_resolved",
            )
        ]

    def __str__(self) -> str:
        return f"{self.trigger} {self.pk}"


class AlertNotice(Row):
    """The messages about one alert to one channel. The row is created when the first one is due."""

    id = models.BigAutoField(primary_key=True)
    alert = models.ForeignKey(
        Alert, models.CASCADE, related_name="notices", db_index=False, verbose_name=_("alert")
    )
    channel = models.CharField(_("channel"), max_length=50)
    sent_at = models.DateTimeField(
        _("sent at"), null=True, blank=True, help_text=_("Time of the latest message.")
    )
    retry_at = models.DateTimeField(
        _("retry at"), null=True, blank=True, help_text=_("No message before, after a failure.")
    )
    failures = models.PositiveIntegerField(_("failures"), default=0)
    error = models.CharField(_("error"), max_length=300, blank=True)
    closed_at = models.DateTimeField(
        _("closed at"), null=True, blank=True, help_text=_("No message follows.")
    )

    class Meta:
        verbose_name = _("alert notice")
        verbose_name_plural = _("alert notices")
        constraints = [
            models.UniqueConstraint(fields=["alert", "channel"], name="outbox_alertnotice_once")
        ]
        indexes = [
            models.Index(
                fields=["channel", "id"],
                condition=Q(closed_at__isnull=True),
                name="outbox_alertnotice_open",
            )
        ]

    def __str__(self) -> str:
        return f"{self.alert_id} to {self.channel}"


class AlertClaim(Row):
    """A claim of one process: for the next check, the next ping, or the messages of a channel."""

    name = models.CharField(_("name"), max_length=60, primary_key=True)
    token = models.CharField(_("token"), max_length=32)
    until = models.DateTimeField(_("until"), help_text=_("Then another process may claim it."))

    class Meta:
        verbose_name = _("alert claim")
        verbose_name_plural = _("alert claims")

    def __str__(self) -> str:
        return self.name
