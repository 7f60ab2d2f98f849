"""Subscriptions, deliveries and attempts."""

from __future__ import annotations

from functools import reduce
from operator import or_

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from outbox.events import LONGEST_SELECTOR, SEPARATOR, has_several_events, is_pattern, selects
from outbox.formatting import with_target

from .events import Event
from .rows import Row

#: The names of tasks' events begin with it: "outbox.TaskEnqueued.default.mail".
TASK_EVENTS = "outbox.TaskEnqueued."


class Subscription(Row):
    """The connection of events to a handler. Rows, not the running code, decide the fan-out.

    A handler has one row for each event name. A handler with patterns ("orders.*"), a bulk handler
    and a sink have one row for all their events. Its window, breaker and pause cover all of them.

    The policy columns have the values that the code declared at the last sync (`migrate` syncs).
    So a relay of an older or newer release applies the policy of the handler's own release.
    """

    class OnDead(models.TextChoices):
        """Treatment of a key's later events after a dead delivery of an ordered handler."""

        HOLD = "hold", _("later events of the key wait for staff")
        PASS = "pass", _("later events of the key continue")

    #: Prefix of `paused_by` if the handler's own backfill paused it.
    PAUSED_BY_BACKFILL = "backfill:"
    #: `paused_by` starts with it where a rule has paused it; `pause_reason` then quotes a failure.
    PAUSED_BY_RULE = "rule:"

    handler = models.CharField(_("handler"), max_length=150)
    event = models.CharField(
        _("event"),
        max_length=LONGEST_SELECTOR,
        help_text=_('An event name, or a list: "orders.*, payments.PaymentCaptured".'),
    )
    since = models.DateTimeField(_("since"))
    active = models.BooleanField(_("active"), default=True)
    known = models.BooleanField(
        _("known"),
        default=True,
        help_text=_("The release that was migrated last declares this handler."),
    )
    paused_at = models.DateTimeField(_("paused at"), null=True, blank=True)
    paused_by = models.CharField(_("paused by"), max_length=150, blank=True)
    pause_reason = models.TextField(_("reason for the pause"), blank=True)

    queue = models.CharField(_("queue"), max_length=100)
    atomic = models.BooleanField(_("atomic"), default=True)
    batch = models.PositiveIntegerField(_("maximum of deliveries per message"))
    bulk = models.BooleanField(
        _("bulk"),
        default=False,
        db_default=False,
        help_text=_("One call of the handler for all deliveries."),
    )
    window = models.PositiveIntegerField(_("maximum of deliveries in flight"))
    window_now = models.PositiveIntegerField(
        _("current window"),
        help_text=_("Shrinks while messages wait longer than their lease, and grows back."),
    )
    lease_seconds = models.FloatField(_("lease in seconds"))
    attempts = models.PositiveIntegerField(_("attempts"), null=True, blank=True)
    backoff_base = models.FloatField(_("first backoff in seconds"))
    backoff_cap = models.FloatField(_("longest backoff in seconds"))

    ordered = models.BooleanField(
        _("ordered"), default=False, help_text=_("Events of one key are processed one by one.")
    )
    share_window = models.PositiveIntegerField(
        _("maximum of deliveries in flight per share"), null=True, blank=True
    )
    on_dead = models.CharField(
        _("after a dead delivery"),
        max_length=10,
        choices=OnDead.choices,
        default=OnDead.HOLD,
    )

    consumers = models.CharField(
        _("consumers"),
        max_length=1000,
        blank=True,
        default="",
        db_default="",
        help_text=_("Names of the systems that report each event as settled, with commas."),
    )

    leases_lost = models.PositiveIntegerField(
        _("leases lost"),
        default=0,
        help_text=_("Attempts that outlived their lease and were rolled back."),
    )
    breaker_failures = models.PositiveIntegerField(
        _("consecutive failures"), default=0, help_text=_("Only failures that the breaker counts.")
    )
    breaker_opened_at = models.DateTimeField(
        _("breaker open since"), null=True, blank=True, help_text=_("Only probes are sent.")
    )
    breaker_probe_at = models.DateTimeField(_("next probe at"), null=True, blank=True)
    breaker_probe = models.BigIntegerField(
        _("probe"), null=True, blank=True, help_text=_("The delivery that tests the handler.")
    )
    breaker_wait = models.FloatField(_("seconds between probes"), default=0)
    breaker_reason = models.CharField(_("reason for opening"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("subscription")
        verbose_name_plural = _("subscriptions")
        permissions = [
            ("pause_subscription", "Can pause and resume handlers"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["handler", "event"], name="outbox_subscription_once")
        ]

    def __str__(self) -> str:
        return gettext("%(handler)s subscribes to %(event)s") % {
            "handler": self.handler,
            "event": self.event,
        }

    @property
    def is_held(self) -> bool:
        """Whether deliveries are parked rather than sent."""
        return self.paused_at is not None or not self.known

    @property
    def has_several_events(self) -> bool:
        """Whether `event` selects more than one event name."""
        return has_several_events(self.event)

    @property
    def has_priorities(self) -> bool:
        """Whether its deliveries have a priority: those of tasks do."""
        return self.event.startswith(TASK_EVENTS)

    @property
    def consumer_names(self) -> tuple[str, ...]:
        """The names of the systems that report each event as settled."""
        return tuple(self.consumers.split(",")) if self.consumers else ()

    def selects(self, name: str) -> bool:
        """Return whether the subscription is owed events of this name."""
        return selects(self.event, name)

    def events_condition(self, field: str = "name") -> Q:
        """Return the condition on an event's name that `selects` decides.

        Args:
            field: path of the name: "name", or "event__name" from deliveries.
        """
        parts = self.event.split(SEPARATOR)
        patterns = [_name_condition(one, field) for one in parts if is_pattern(one)]
        excluded = [_name_condition(one[1:], field) for one in parts if one.startswith("!")]
        condition = Q(**{f"{field}__in": [one for one in parts if not is_pattern(one)]})
        if patterns:
            selected = reduce(or_, patterns)
            condition |= selected & ~reduce(or_, excluded) if excluded else selected
        return condition


def _name_condition(part: str, field: str) -> Q:
    if part == "*":
        return ~Q(**{f"{field}__startswith": "outbox."})
    if part.endswith(".*"):
        return Q(**{f"{field}__startswith": part[:-1]})
    return Q(**{field: part})


class Delivery(Row):
    """One event to be processed by one handler: retry state while owed, receipt once done.

    A handler with targets has one delivery that finds the targets of an event, then one for each.

    The row also holds the latest attempt (`started_at`, `settled_at`, `worker`). So a delivery that
    succeeds at the first attempt, as nearly all do, needs no row of `Attempt`.
    """

    class State(models.TextChoices):
        """State of a delivery. All states but done and discarded are owed."""

        PENDING = "pending", _("pending")
        SENT = "sent", _("sent")
        DONE = "done", _("done")
        DEAD = "dead", _("dead")
        DISCARDED = "discarded", _("discarded")
        PARKED = "parked", _("parked")
        BLOCKED = "blocked", _("blocked")

    SETTLED = (State.DONE, State.DISCARDED)
    OWED = (State.PENDING, State.SENT, State.DEAD, State.PARKED, State.BLOCKED)

    id = models.BigAutoField(primary_key=True)
    event = models.ForeignKey(
        Event, models.PROTECT, related_name="deliveries", db_index=False, verbose_name=_("event")
    )
    subscription = models.ForeignKey(
        Subscription,
        models.PROTECT,
        related_name="deliveries",
        db_index=False,
        verbose_name=_("subscription"),
    )
    state = models.CharField(
        _("state"), max_length=10, choices=State.choices, default=State.PENDING
    )
    due_at = models.DateTimeField(
        _("due at"),
        help_text=_(
            "Pending: when it is sent. Sent: when its lease expires. Blocked: when the relay "
            "checks it again."
        ),
    )
    token = models.PositiveIntegerField(
        _("token"),
        default=0,
        help_text=_("Number of times it was sent. Only the last message counts."),
    )
    started_token = models.PositiveIntegerField(
        _("started token"), default=0, help_text=_("The token of the last start by a worker.")
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    settled_at = models.DateTimeField(_("settled at"), null=True, blank=True)
    worker = models.CharField(_("worker"), max_length=150, blank=True)
    note = models.CharField(
        _("note"), max_length=300, blank=True, help_text=_("Reason for the present state.")
    )
    target = models.CharField(
        _("target"),
        max_length=200,
        blank=True,
        default="",
        db_default="",
        help_text=_("The target, if the handler has one delivery for each target of an event."),
    )
    # NULL for other deliveries: the index then leaves them out on both databases.
    order_key = models.CharField(  # noqa: DJ001
        _("order key"),
        max_length=100,
        null=True,
        blank=True,
        help_text=_("The event's key while the delivery is owed to an ordered handler."),
    )

    share = models.CharField(  # noqa: DJ001  as above
        _("share"),
        max_length=100,
        null=True,
        blank=True,
        help_text=_("The event's share, if the handler limits deliveries in flight per share."),
    )

    priority = models.SmallIntegerField(
        _("priority"),
        null=True,
        blank=True,
        help_text=_("Of a task: those of a higher priority are sent first."),
    )
    returned = models.JSONField(
        _("return value"), null=True, blank=True, help_text=_("The return value of a task.")
    )

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        permissions = [
            ("retry_delivery", "Can retry deliveries"),
            ("discard_delivery", "Can discard deliveries"),
            ("replay_delivery", "Can replay deliveries"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["event", "subscription", "target"], name="outbox_delivery_once"
            ),
            models.CheckConstraint(
                condition=Q(started_token__lte=F("token")), name="outbox_delivery_token"
            ),
        ]
        # None of these contains done deliveries. So their size depends on owed ones, not history.
        indexes = [
            models.Index(
                fields=["subscription", "due_at"],
                condition=Q(state="pending"),
                name="outbox_delivery_pending",
            ),
            models.Index(
                fields=["subscription", "due_at"],
                condition=Q(state="sent"),
                name="outbox_delivery_sent",
            ),
            # PostgreSQL could share one index. SQLite matches conditions with one state only.
            models.Index(
                fields=["subscription", "id"],
                condition=Q(state="dead"),
                name="outbox_delivery_dead",
            ),
            # For lists, newest first: old dead deliveries are spread among millions of done ones.
            models.Index(fields=["id"], condition=Q(state="dead"), name="outbox_delivery_dead_id"),
            models.Index(
                fields=["event"], condition=Q(state="dead"), name="outbox_delivery_dead_event"
            ),
            models.Index(
                fields=["subscription", "id"],
                condition=Q(state="parked"),
                name="outbox_delivery_parked",
            ),
            models.Index(
                fields=["subscription", "due_at"],
                condition=Q(state="blocked"),
                name="outbox_delivery_blocked",
            ),
            # Discarded deliveries are few, but staff search for them among millions of done ones.
            models.Index(
                fields=["id"], condition=Q(state="discarded"), name="outbox_delivery_discarded"
            ),
            # Empty without handlers that have a `share_window`.
            models.Index(
                fields=["subscription", "share", "due_at"],
                condition=Q(state="pending", share__isnull=False),
                name="outbox_delivery_share",
            ),
            # Empty without tasks.
            models.Index(
                fields=["subscription", "-priority", "due_at"],
                condition=Q(state="pending", priority__isnull=False),
                name="outbox_delivery_priority",
            ),
            # Empty without failures: it has deliveries that were started before and are due again.
            models.Index(
                fields=["subscription", "due_at", "attempts"],
                condition=Q(state="pending", started_token__gt=0),
                name="outbox_delivery_failing",
            ),
            # Empty without ordered handlers.
            models.Index(
                fields=["order_key", "subscription", "event"],
                condition=Q(order_key__isnull=False),
                name="outbox_delivery_line",
            ),
        ]

    def __str__(self) -> str:
        return gettext("%(number)s to %(handler)s") % {"number": self.pk, "handler": self.receiver}

    @property
    def receiver(self) -> str:
        """The handler's name, with the target in brackets if there is one."""
        return with_target(self.subscription.handler, self.target)

    @property
    def is_owed(self) -> bool:
        """Whether the delivery still needs work, from a worker or a person."""
        return self.state not in self.SETTLED

    @property
    def is_started(self) -> bool:
        """Whether a worker started the handler under the present token."""
        return self.state == self.State.SENT and self.started_token == self.token


class Attempt(Row):
    """One start of a handler that did not succeed. The delivery's row has the successful one.

    A replay resets the delivery's receipt. The old receipt is then kept here, as `REPLAYED`.
    """

    class Outcome(models.TextChoices):
        """The end of an attempt."""

        FAILED = "failed", _("failed")
        REFUSED = "refused", _("refused for good")
        DIED = "died", _("the worker died")
        LEASE_LOST = "lease_lost", _("lease lost")
        DATABASE = "database", _("the database failed")
        OUTAGE = "outage", _("the database could not be reached")
        REPLAYED = "replayed", _("settled, and replayed later")
        UNSETTLED = "unsettled", _("a consumer has not settled it in time")

    #: Failures of the database. A delivery that is dead after one was overtaken: a later event of
    #: its key ran (`on_dead="pass"`) before the death of its worker was withdrawn.
    EXCUSED = (Outcome.DATABASE, Outcome.OUTAGE)
    #: The delivery was done before. Its next publication has another deduplication id.
    PUBLISHED_BEFORE = (Outcome.REPLAYED, Outcome.UNSETTLED)

    delivery = models.ForeignKey(
        Delivery, models.CASCADE, related_name="failures", verbose_name=_("delivery")
    )
    number = models.PositiveIntegerField(_("number"))
    started_at = models.DateTimeField(_("started at"))
    ended_at = models.DateTimeField(_("ended at"))
    worker = models.CharField(_("worker"), max_length=150, blank=True)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome.choices)
    exception = models.CharField(_("exception"), max_length=200, blank=True)
    exception_path = models.CharField(
        _("path of the exception"), max_length=300, blank=True, default="", db_default=""
    )
    message = models.TextField(_("message"), blank=True)
    traceback = models.TextField(_("traceback"), blank=True)
    place = models.CharField(
        _("place"), max_length=300, blank=True, help_text=_("File and line of the exception.")
    )
    release = models.CharField(
        _("release"),
        max_length=100,
        blank=True,
        default="",
        db_default="",
        help_text=_('OUTBOX["RELEASE"] of the process that recorded it.'),
    )

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ["started_at", "id"]

    def __str__(self) -> str:
        return f"{self.number}: {self.outcome}"
