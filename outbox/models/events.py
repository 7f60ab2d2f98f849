"""Events, delayed events, and the horizon of pruned events."""

from __future__ import annotations

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from outbox.ids import uuid7

from .rows import Row


class Event(Row):
    """A fact that happened, as its producer emitted it. The row never changes.

    Exceptions: the relay sets `fanned_out_at`, and `redact` blanks the fields that the event's
    class declares sensitive and sets `redacted_at`.
    """

    seq = models.BigAutoField(
        primary_key=True, help_text=_("The order of events; for one key it follows commit order.")
    )
    id = models.UUIDField(_("event id"), unique=True, default=uuid7, editable=False)
    name = models.CharField(_("name"), max_length=150)
    version = models.PositiveSmallIntegerField(_("version"), default=1)
    key = models.CharField(
        _("key"), max_length=100, help_text=_("The aggregate that the event is about.")
    )
    # NULL for events without a subject: the index then leaves them out on both databases.
    subject = models.CharField(  # noqa: DJ001
        _("subject"),
        max_length=100,
        null=True,
        blank=True,
        help_text=_("The person whose data the payload contains."),
    )
    tenant = models.CharField(  # noqa: DJ001  as above
        _("tenant"),
        max_length=100,
        null=True,
        blank=True,
        help_text=_('The tenant that OUTBOX["TENANT"] restores around handlers of the event.'),
    )
    share = models.CharField(  # noqa: DJ001  as above
        _("share"),
        max_length=100,
        null=True,
        blank=True,
        help_text=_("The owner or tenant whose deliveries in flight a handler may limit."),
    )
    payload = models.JSONField(_("payload"), encoder=DjangoJSONEncoder)
    redacted_at = models.DateTimeField(
        _("redacted at"),
        null=True,
        blank=True,
        help_text=_("Time when the sensitive fields were blanked."),
    )
    emitted_at = models.DateTimeField(_("emitted at"))
    correlation_id = models.UUIDField(
        _("correlation id"), help_text=_("Shared by all events that follow from one request.")
    )
    causation_id = models.UUIDField(
        _("caused by"), null=True, blank=True, help_text=_("The event whose handler emitted this.")
    )
    emitted_by = models.CharField(
        _("emitted by"), max_length=150, blank=True, help_text=_("The handler that emitted this.")
    )
    actor = models.CharField(_("actor"), max_length=150, blank=True)
    corrects = models.UUIDField(
        _("corrects"),
        null=True,
        blank=True,
        help_text=_("The dead event that this event replaces, with a corrected payload."),
    )
    traceparent = models.CharField(
        _("trace context"),
        max_length=55,
        blank=True,
        default="",
        db_default="",
        help_text=_("W3C traceparent of the emitter. Empty without tracing."),
    )
    tracestate = models.CharField(
        _("trace state"),
        max_length=512,
        blank=True,
        default="",
        db_default="",
        help_text=_("W3C tracestate of the emitter, at most 512 characters of it."),
    )
    fanned_out_at = models.DateTimeField(_("fanned out at"), null=True, blank=True)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        permissions = [
            ("view_sensitive", "Can see sensitive fields"),
            ("correct_event", "Can correct events and retry them"),
        ]
        indexes = [
            models.Index(
                fields=["seq"], condition=Q(fanned_out_at=None), name="outbox_event_waiting"
            ),
            # Ordered handlers check whether an earlier event of a key has no deliveries yet.
            models.Index(
                fields=["key", "seq"],
                condition=Q(fanned_out_at=None),
                name="outbox_event_waiting_key",
            ),
            models.Index(fields=["key", "seq"], name="outbox_event_key"),
            models.Index(fields=["correlation_id", "seq"], name="outbox_event_correlation"),
            # Timelines find the effects of an event, however many share its correlation id.
            models.Index(
                fields=["causation_id"],
                condition=Q(causation_id__isnull=False),
                name="outbox_event_cause",
            ),
            # Empty without corrected events.
            models.Index(
                fields=["corrects"],
                condition=Q(corrects__isnull=False),
                name="outbox_event_corrects",
            ),
            models.Index(fields=["name", "seq"], name="outbox_event_name"),
            # Empty without tracing. The search by trace id reads a prefix.
            models.Index(
                fields=["traceparent"],
                condition=Q(traceparent__gt=""),
                opclasses=["varchar_pattern_ops"],
                name="outbox_event_trace",
            ),
            models.Index(
                fields=["subject", "seq"],
                condition=Q(subject__isnull=False),
                name="outbox_event_subject",
            ),
            # Empty without tenants.
            models.Index(
                fields=["tenant", "seq"],
                condition=Q(tenant__isnull=False),
                name="outbox_event_tenant",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.key}"


class DelayedEvent(Row):
    """A delayed emit. It becomes an event when it is due. Until then it is no fact."""

    id = models.UUIDField(
        _("event id"),
        primary_key=True,
        default=uuid7,
        editable=False,
        help_text=_("The emitted event has the same id."),
    )
    due_at = models.DateTimeField(_("due at"))
    name = models.CharField(_("name"), max_length=150)
    version = models.PositiveSmallIntegerField(_("version"), default=1)
    key = models.CharField(_("key"), max_length=100)
    subject = models.CharField(_("subject"), max_length=100, null=True, blank=True)  # noqa: DJ001
    share = models.CharField(_("share"), max_length=100, null=True, blank=True)  # noqa: DJ001
    tenant = models.CharField(_("tenant"), max_length=100, null=True, blank=True)  # noqa: DJ001
    payload = models.JSONField(_("payload"), encoder=DjangoJSONEncoder)
    stored_at = models.DateTimeField(_("stored at"))
    correlation_id = models.UUIDField(_("correlation id"))
    causation_id = models.UUIDField(_("caused by"), null=True, blank=True)
    emitted_by = models.CharField(_("emitted by"), max_length=150, blank=True)
    actor = models.CharField(_("actor"), max_length=150, blank=True)
    traceparent = models.CharField(_("trace context"), max_length=55, blank=True, default="")
    tracestate = models.CharField(
        _("trace state"), max_length=512, blank=True, default="", db_default=""
    )

    class Meta:
        verbose_name = _("delayed event")
        verbose_name_plural = _("delayed events")
        indexes = [models.Index(fields=["due_at"], name="outbox_delayed_due")]

    def __str__(self) -> str:
        return f"{self.name} {self.key}"


class DedupeKey(Row):
    """A `dedupe_key` of `emit`, while its event or delayed event exists.

    `event` has no foreign key: it is the id of an event or of a delayed event. An earlier release
    prunes events and leaves their keys. Such a key counts as unused, and
    retention deletes it.
    """

    digest = models.CharField(
        _("digest"),
        max_length=64,
        primary_key=True,
        help_text=_("SHA-256 of the event's name and the key."),
    )
    event = models.UUIDField(_("event id"), unique=True)

    class Meta:
        verbose_name = _("deduplication key")
        verbose_name_plural = _("deduplication keys")

    def __str__(self) -> str:
        return self.digest


class Horizon(Row):
    """The time since which no event was pruned. Older events may be missing.

    One row, or none if nothing was ever pruned. Code that draws conclusions from a missing event
    must read it.
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    emitted_before = models.DateTimeField(_("emitted before"))

    class Meta:
        verbose_name = _("horizon")
        verbose_name_plural = _("horizons")
        constraints = [models.CheckConstraint(condition=Q(id=1), name="outbox_horizon_once")]

    def __str__(self) -> str:
        return gettext("events from %(time)s on are kept") % {"time": self.emitted_before}
