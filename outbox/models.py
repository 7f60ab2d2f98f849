"""What happened, who hears it, what is still owed, what is told later, what operators did.

Most columns never change once written. Those that do are the relay's and the workers' bookkeeping,
and each is written under a lock or by a conditional update.
"""

from __future__ import annotations

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from uuid_utils.compat import uuid7


class Event(models.Model):
    """A fact that happened, as its producer told it. Its facts never change.

    Only `redact` blanks what its class declares sensitive, and says when.
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
    # NULL, so that its index leaves the rest out on both databases.
    subject = models.CharField(  # noqa: DJ001
        _("subject"),
        max_length=100,
        null=True,
        blank=True,
        help_text=_("Whose personal data it carries."),
    )
    payload = models.JSONField(_("payload"), encoder=DjangoJSONEncoder)
    redacted_at = models.DateTimeField(
        _("redacted at"),
        null=True,
        blank=True,
        help_text=_("When its sensitive fields were blanked."),
    )
    emitted_at = models.DateTimeField(_("emitted at"))
    correlation_id = models.UUIDField(
        _("correlation id"), help_text=_("Shared by all that follows from one request.")
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
        help_text=_("The event whose payload a person repaired; this is the repaired one."),
    )
    traceparent = models.CharField(
        _("trace context"),
        max_length=55,
        blank=True,
        default="",
        db_default="",
        help_text=_("W3C traceparent of who emitted it; empty without tracing."),
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
            # For ordered handlers: whether an earlier event of a key has no deliveries yet.
            models.Index(
                fields=["key", "seq"],
                condition=Q(fanned_out_at=None),
                name="outbox_event_waiting_key",
            ),
            models.Index(fields=["key", "seq"], name="outbox_event_key"),
            models.Index(fields=["correlation_id", "seq"], name="outbox_event_correlation"),
            models.Index(fields=["name", "seq"], name="outbox_event_name"),
            models.Index(
                fields=["subject", "seq"],
                condition=Q(subject__isnull=False),
                name="outbox_event_subject",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.key}"


class DelayedEvent(models.Model):
    """What is to be told later. It becomes an event when it is due; until then it is no fact."""

    id = models.UUIDField(
        _("event id"), primary_key=True, default=uuid7, editable=False, help_text=_("As an event.")
    )
    due_at = models.DateTimeField(_("due at"))
    name = models.CharField(_("name"), max_length=150)
    version = models.PositiveSmallIntegerField(_("version"), default=1)
    key = models.CharField(_("key"), max_length=100)
    subject = models.CharField(_("subject"), max_length=100, null=True, blank=True)  # noqa: DJ001
    payload = models.JSONField(_("payload"), encoder=DjangoJSONEncoder)
    stored_at = models.DateTimeField(_("stored at"))
    correlation_id = models.UUIDField(_("correlation id"))
    causation_id = models.UUIDField(_("caused by"), null=True, blank=True)
    emitted_by = models.CharField(_("emitted by"), max_length=150, blank=True)
    actor = models.CharField(_("actor"), max_length=150, blank=True)
    traceparent = models.CharField(
        _("trace context"), max_length=55, blank=True, default="", db_default=""
    )

    class Meta:
        verbose_name = _("delayed event")
        verbose_name_plural = _("delayed events")
        indexes = [models.Index(fields=["due_at"], name="outbox_delayed_due")]

    def __str__(self) -> str:
        return f"{self.name} {self.key}"


class Subscription(models.Model):
    """This handler hears that event. Rows, not the running code, decide the fan-out.

    The policy columns are what the code declared when it was last synced (`migrate` does that), so
    that a relay of an older or newer release treats a handler as its own release wants it.
    """

    class OnDead(models.TextChoices):
        """What becomes of one key's later events when a delivery of an ordered handler is dead."""

        HOLD = "hold", _("later ones wait for a person")
        PASS = "pass", _("later ones go on")

    handler = models.CharField(_("handler"), max_length=150)
    event = models.CharField(_("event"), max_length=150)
    since = models.DateTimeField(_("since"))
    active = models.BooleanField(_("active"), default=True)
    known = models.BooleanField(
        _("known"), default=True, help_text=_("The code of the last migrate has this handler.")
    )
    paused_at = models.DateTimeField(_("paused at"), null=True, blank=True)
    paused_by = models.CharField(_("paused by"), max_length=150, blank=True)
    pause_reason = models.TextField(_("reason of the pause"), blank=True)

    queue = models.CharField(_("queue"), max_length=100)
    atomic = models.BooleanField(_("atomic"), default=True)
    batch = models.PositiveIntegerField(_("deliveries per message"))
    window = models.PositiveIntegerField(_("most deliveries in flight"))
    window_now = models.PositiveIntegerField(
        _("window now"),
        help_text=_("Shrinks while messages wait longer than their lease, and grows back."),
    )
    lease_seconds = models.FloatField(_("lease in seconds"))
    attempts = models.PositiveIntegerField(_("attempts"), null=True, blank=True)
    backoff_base = models.FloatField(_("first backoff in seconds"))
    backoff_cap = models.FloatField(_("longest backoff in seconds"))

    ordered = models.BooleanField(
        _("ordered"), default=False, help_text=_("One key's events one after the other.")
    )
    on_dead = models.CharField(
        _("what a dead delivery does to its key"),
        max_length=10,
        choices=OnDead.choices,
        default=OnDead.HOLD,
    )

    leases_lost = models.PositiveIntegerField(
        _("leases lost"), default=0, help_text=_("Runs that ended after their lease: not kept.")
    )
    breaker_failures = models.PositiveIntegerField(
        _("failures in a row"), default=0, help_text=_("Of the kinds that its breaker counts.")
    )
    breaker_opened_at = models.DateTimeField(
        _("breaker open since"), null=True, blank=True, help_text=_("Nothing is sent but probes.")
    )
    breaker_probe_at = models.DateTimeField(_("next probe at"), null=True, blank=True)
    breaker_probe = models.BigIntegerField(
        _("probe"), null=True, blank=True, help_text=_("The delivery that is sent to try.")
    )
    breaker_wait = models.FloatField(_("seconds between probes"), default=0)
    breaker_reason = models.CharField(_("why it opened"), max_length=300, blank=True)

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
        return f"{self.handler} hears {self.event}"

    @property
    def is_held(self) -> bool:
        """Whether deliveries are parked rather than sent."""
        return self.paused_at is not None or not self.known


class Delivery(models.Model):
    """One event owed to one handler: retry state while it is owed, receipt once it is done.

    The row also holds the latest attempt (`started_at`, `settled_at`, `worker`), so that an event
    which is handled at the first try, as nearly all are, costs no row of `Attempt`.
    """

    class State(models.TextChoices):
        """See the glossary: all but done and discarded are owed."""

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
            "Pending: when it is sent. Sent: when its lease passes. Blocked: when the relay looks "
            "again whether it still is."
        ),
    )
    token = models.PositiveIntegerField(
        _("token"), default=0, help_text=_("How often it was sent; only the latest counts.")
    )
    started_token = models.PositiveIntegerField(
        _("started token"), default=0, help_text=_("The token under which a worker last started.")
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    settled_at = models.DateTimeField(_("settled at"), null=True, blank=True)
    worker = models.CharField(_("worker"), max_length=150, blank=True)
    note = models.CharField(
        _("note"), max_length=300, blank=True, help_text=_("Why it is in this state.")
    )
    # NULL, so that an index of what has a place in line leaves the rest out on both databases.
    order_key = models.CharField(  # noqa: DJ001
        _("place in line"),
        max_length=100,
        null=True,
        blank=True,
        help_text=_("The event's key while an ordered handler is owed this; else nothing."),
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
            models.UniqueConstraint(fields=["event", "subscription"], name="outbox_delivery_once"),
            models.CheckConstraint(
                condition=Q(started_token__lte=F("token")), name="outbox_delivery_token"
            ),
        ]
        # What is settled is in none of these, so their size follows what is owed, not history.
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
            # One for both would do on PostgreSQL; SQLite matches a condition with one state only.
            models.Index(
                fields=["subscription", "id"],
                condition=Q(state="dead"),
                name="outbox_delivery_dead",
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
            # Empty without ordered handlers.
            models.Index(
                fields=["order_key", "subscription", "event"],
                condition=Q(order_key__isnull=False),
                name="outbox_delivery_line",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pk} to {self.subscription.handler}"

    @property
    def is_owed(self) -> bool:
        """Whether the handler still has to see the event, or a person to decide."""
        return self.state not in self.SETTLED

    @property
    def is_started(self) -> bool:
        """Whether a worker began the handler under the present token."""
        return self.state == self.State.SENT and self.started_token == self.token


class Attempt(models.Model):
    """One start of a handler that came to no good. The good one is in its delivery.

    A replay resets that receipt; then it is kept here, as `REPLAYED`.
    """

    class Outcome(models.TextChoices):
        """How the attempt ended."""

        FAILED = "failed", _("failed")
        REFUSED = "refused", _("refused for good")
        DIED = "died", _("the worker died")
        LEASE_LOST = "lease_lost", _("lease lost")
        REPLAYED = "replayed", _("settled, and replayed later")

    delivery = models.ForeignKey(
        Delivery, models.CASCADE, related_name="failures", verbose_name=_("delivery")
    )
    number = models.PositiveIntegerField(_("number"))
    started_at = models.DateTimeField(_("started at"))
    ended_at = models.DateTimeField(_("ended at"))
    worker = models.CharField(_("worker"), max_length=150, blank=True)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome.choices)
    exception = models.CharField(_("exception"), max_length=200, blank=True)
    message = models.TextField(_("message"), blank=True)
    traceback = models.TextField(_("traceback"), blank=True)
    place = models.CharField(
        _("place"), max_length=300, blank=True, help_text=_("File and line that raised.")
    )

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ["started_at", "id"]

    def __str__(self) -> str:
        return f"{self.number}: {self.outcome}"


class Horizon(models.Model):
    """How far back events are kept: retention may have removed what was emitted before.

    One row, or none while nothing was ever pruned. Who looks for an event by its absence asks here.
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    emitted_before = models.DateTimeField(_("emitted before"))

    class Meta:
        verbose_name = _("horizon")
        verbose_name_plural = _("horizons")
        constraints = [models.CheckConstraint(condition=Q(id=1), name="outbox_horizon_once")]

    def __str__(self) -> str:
        return f"events from {self.emitted_before} on are kept"


class Operation(models.Model):
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


class Counter(models.Model):
    """How often something has happened since the beginning; each process adds what it counted."""

    name = models.CharField(_("name"), max_length=40)
    label = models.CharField(_("label"), max_length=150, blank=True)
    part = models.CharField(_("part"), max_length=20, blank=True)
    value = models.FloatField(_("value"), default=0)

    class Meta:
        verbose_name = _("counter")
        verbose_name_plural = _("counters")
        constraints = [
            models.UniqueConstraint(fields=["name", "label", "part"], name="outbox_counter_once")
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.label} {self.part}: {self.value:g}"


class Heartbeat(models.Model):
    """A process was alive at `seen_at`. One row a process, written every few seconds."""

    class Kind(models.TextChoices):
        """Which part of the outbox it is."""

        RELAY = "relay", _("relay")
        WORKER = "worker", _("worker")
        BEAT = "beat", _("beat")
        BROKER = "broker", _("broker: a message went through it")
        CANARY = "canary", _("canary")

    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    name = models.CharField(_("name"), max_length=200)
    queues = models.JSONField(_("queues"), default=list)
    started_at = models.DateTimeField(_("started at"))
    seen_at = models.DateTimeField(_("seen at"))

    class Meta:
        verbose_name = _("heartbeat")
        verbose_name_plural = _("heartbeats")
        constraints = [
            models.UniqueConstraint(fields=["kind", "name"], name="outbox_heartbeat_once")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def _count() -> models.PositiveBigIntegerField[int, int]:
    return models.PositiveBigIntegerField(default=0, editable=False)


class Minute(models.Model):
    """What went through in one minute: for one handler, or for all ("").

    Workers add what they did every few seconds, so nobody has to read deliveries to count them.
    `lag_0` and so on are a histogram: how many were done within so many seconds of their event's
    commit (the bounds are `minutes.LAGS`).
    """

    id = models.BigAutoField(primary_key=True)
    minute = models.DateTimeField(_("minute"))
    handler = models.CharField(_("handler"), max_length=150, blank=True)
    events = _count()
    done = _count()
    failed = _count()
    dead = _count()
    seconds = models.FloatField(default=0, help_text=_("How long the handlers ran, in all."))
    lag_0 = _count()
    lag_1 = _count()
    lag_2 = _count()
    lag_3 = _count()
    lag_4 = _count()
    lag_5 = _count()
    lag_6 = _count()
    lag_7 = _count()
    lag_8 = _count()
    lag_9 = _count()
    lag_10 = _count()
    lag_11 = _count()

    class Meta:
        # The name of its page in the admin: these rows are what the overview is drawn from.
        verbose_name = _("overview")
        verbose_name_plural = _("overview")
        constraints = [
            models.UniqueConstraint(fields=["handler", "minute"], name="outbox_minute_once")
        ]

    def __str__(self) -> str:
        return f"{self.minute:%Y-%m-%d %H:%M} {self.handler}"
