"""Models of webhooks: endpoints, the messages to them, and each attempt to send one."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from outbox.ids import uuid7
from outbox.sinks.signatures import new_secret


class EventType(models.TextChoices):
    """Public names of the event types that an endpoint may receive."""

    PLACED = "order.placed", _("an order is placed")
    CONFIRMED = "order.confirmed", _("stock is reserved and payment authorized")
    READY_TO_SHIP = "order.ready_to_ship", _("the order is paid and may be packed")
    SHIPPED = "order.shipped", _("the parcel is with the carrier")
    CANCELLED = "order.cancelled", _("the order is cancelled")
    REFUNDED = "order.refunded", _("a refund is completed")


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    def locked(self, endpoint_id: UUID) -> Endpoint:
        """Return the endpoint, locked until the transaction ends. Every change begins with this."""
        return self.select_for_update().get(pk=endpoint_id)


class Endpoint(models.Model):
    """A URL of a customer's system, and the event types that it receives.

    The secrets are stored in clear, since each message is signed with them.
    """

    class Disabled(models.TextChoices):
        BY_OWNER = "by_owner", _("by its owner")
        BY_STAFF = "by_staff", _("by staff")
        GONE = "gone", _("it answered 410 Gone")
        FAILING = "failing", _("it failed for too long")
        REFUSED = "refused", _("its host is not allowed")

    class UrlState(models.TextChoices):
        UNCHECKED = "unchecked", _("not checked yet")
        ALLOWED = "allowed", _("allowed")
        UNRESOLVED = "unresolved", _("host not found")
        REFUSED = "refused", _("its host is not allowed")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", verbose_name=_("owner")
    )
    url = models.CharField(_("URL"), max_length=500)
    url_state = models.CharField(
        _("state of the URL"),
        max_length=10,
        choices=UrlState.choices,
        default=UrlState.UNCHECKED,
    )
    description = models.CharField(_("description"), max_length=200, blank=True)
    event_types = models.JSONField(_("event types"))
    secret = models.CharField(_("secret"), max_length=100, default=new_secret, editable=False)
    old_secret = models.CharField(_("old secret"), max_length=100, blank=True, editable=False)
    old_secret_until = models.DateTimeField(_("old secret signs until"), null=True, blank=True)
    disabled_at = models.DateTimeField(_("disabled at"), null=True, blank=True)
    disabled_because = models.CharField(
        _("disabled because"), max_length=10, choices=Disabled.choices, blank=True
    )
    disabled_note = models.CharField(_("note"), max_length=200, blank=True)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    failing_since = models.DateTimeField(_("failing since"), null=True, blank=True)
    rests_until = models.DateTimeField(_("paused until"), null=True, blank=True)
    last_success_at = models.DateTimeField(_("last success"), null=True, blank=True)
    last_failure_at = models.DateTimeField(_("last failure"), null=True, blank=True)
    last_failure = models.CharField(_("last error"), max_length=300, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    changed_at = models.DateTimeField(_("changed at"), auto_now=True)

    objects = EndpointQuerySet.as_manager()

    class Meta:
        verbose_name = _("endpoint")
        verbose_name_plural = _("endpoints")
        ordering = ["-id"]
        permissions = [("disable_endpoint", _("Can disable and enable endpoints"))]

    def __str__(self) -> str:
        return self.url

    @property
    def enabled(self) -> bool:
        return self.disabled_at is None

    def receives(self, kind: EventType) -> bool:
        return self.enabled and kind in self.event_types

    def keys(self, now: datetime) -> list[str]:
        """Return the secrets that sign now, the newest first."""
        is_changing = self.old_secret_until and now < self.old_secret_until
        return [self.secret, *([self.old_secret] if is_changing else [])]

    def disable(self, *, because: Endpoint.Disabled, note: str = "") -> None:
        self.disabled_at, self.disabled_because = timezone.now(), because
        self.disabled_note = note[:200]

    def enable(self) -> None:
        self.disabled_at, self.disabled_because, self.disabled_note = None, "", ""
        self.reset_failures()

    def reset_failures(self) -> None:
        self.failures, self.failing_since, self.rests_until = 0, None, None

    def record_failure(self, error: str, *, rest: timedelta) -> None:
        now = timezone.now()
        self.failures += 1
        self.failing_since = self.failing_since or now
        self.rests_until = now + rest
        self.record_error(error, at=now)

    def record_error(self, error: str, *, at: datetime) -> None:
        """Store the last error. Unlike a failure, it does not make the endpoint rest."""
        self.last_failure_at, self.last_failure = at, error[:300]

    def record_success(self) -> None:
        self.reset_failures()
        self.last_success_at = timezone.now()


class Message(models.Model):
    """The message to one endpoint about one event. Its body is the same at each attempt."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        SENT = "sent", _("sent")
        GIVEN_UP = "given_up", _("given up")
        DROPPED = "dropped", _("dropped, because the endpoint is disabled")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    endpoint = models.ForeignKey(
        Endpoint, models.CASCADE, related_name="messages", verbose_name=_("endpoint")
    )
    event_id = models.UUIDField(_("event"))
    type = models.CharField(_("type"), max_length=40)
    body = models.TextField(_("body"))
    state = models.CharField(
        _("state"), max_length=10, choices=State.choices, default=State.WAITING
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    #: Until then a worker is presumed to be sending it.
    sending_until = models.DateTimeField(_("in flight until"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True, db_index=True)
    settled_at = models.DateTimeField(_("settled at"), null=True, blank=True)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint", "event_id"], name="webhook_once_per_event_and_endpoint"
            )
        ]
        indexes = [
            models.Index(
                fields=["endpoint", "sending_until"],
                condition=models.Q(sending_until__isnull=False),
                name="webhook_being_sent",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"

    def settle(self, state: Message.State) -> None:
        self.state, self.settled_at, self.sending_until = state, timezone.now(), None
        self.save(update_fields=["state", "settled_at", "sending_until"])


class Attempt(models.Model):
    """One request to an endpoint, and its result."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    endpoint = models.ForeignKey(
        Endpoint, models.CASCADE, related_name="attempts", verbose_name=_("endpoint")
    )
    message = models.ForeignKey(
        Message, models.CASCADE, related_name="log", verbose_name=_("message")
    )
    number = models.PositiveIntegerField(_("attempt"))
    status_code = models.PositiveSmallIntegerField(_("status code"), null=True)
    error = models.CharField(_("error"), max_length=300, blank=True)
    duration_ms = models.PositiveIntegerField(_("duration (ms)"))
    at = models.DateTimeField(_("at"), auto_now_add=True)

    class Meta:
        verbose_name = _("delivery attempt")
        verbose_name_plural = _("delivery attempts")
        ordering = ["-id"]
        indexes = [models.Index(fields=["endpoint", "-id"], name="webhook_log")]

    def __str__(self) -> str:
        return f"{self.message_id} #{self.number}"
