"""Messages that sources have stored as events, and the state of each source."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .rows import Row


class Received(Row):
    """An external message that was stored as an event. A second one with its id is a duplicate.

    Rows are deleted by age: `DEDUPLICATION_DAYS` of the source. `event` has no foreign key, since
    events are pruned by other rules.
    """

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(_("source"), max_length=50)
    external_id = models.CharField(_("external id"), max_length=100)
    event = models.UUIDField(_("event id"))
    received_at = models.DateTimeField(_("received at"))

    class Meta:
        verbose_name = _("received message")
        verbose_name_plural = _("received messages")
        constraints = [
            models.UniqueConstraint(fields=["source", "external_id"], name="outbox_received_once")
        ]

    def __str__(self) -> str:
        return gettext("%(number)s from %(source)s") % {
            "number": self.external_id,
            "source": self.source,
        }


def _count() -> models.PositiveBigIntegerField[int, int]:
    return models.PositiveBigIntegerField(default=0, editable=False)


def _later_count() -> models.PositiveBigIntegerField[int, int]:
    """Return a counter that processes of an earlier release leave out when they insert a row."""
    return models.PositiveBigIntegerField(default=0, db_default=0, editable=False)


class SourceState(Row):
    """Counts and condition of one source. Each process adds its counts every ten seconds."""

    source = models.CharField(_("source"), max_length=50, primary_key=True)
    stored = _count()
    duplicates = _count()
    unreadable = _count()
    unknown = _count()
    dropped = _count()
    settlements = _later_count()
    ignored = _later_count()
    last_at = models.DateTimeField(
        _("last message at"),
        null=True,
        blank=True,
        help_text=_("Time when the counts were stored last, up to ten seconds later."),
    )
    lag = models.PositiveBigIntegerField(
        _("lag"), null=True, blank=True, help_text=_("Messages that wait in the external system.")
    )
    lag_at = models.DateTimeField(_("lag measured at"), null=True, blank=True)
    paused_at = models.DateTimeField(
        _("paused since"), null=True, blank=True, help_text=_("Its backlog was too large.")
    )
    failing_at = models.DateTimeField(_("failing since"), null=True, blank=True)
    failure = models.CharField(_("failure"), max_length=300, blank=True, default="")

    class Meta:
        verbose_name = _("source")
        verbose_name_plural = _("sources")

    def __str__(self) -> str:
        return self.source
