"""Heartbeats of processes, counters, and throughput per minute."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .rows import Row


class Counter(Row):
    """A counter that only grows. Each process adds its own counts."""

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


class Heartbeat(Row):
    """The last heartbeat of a process. Each process writes its row every few seconds."""

    class Kind(models.TextChoices):
        """The part of the outbox that sends the heartbeat."""

        RELAY = "relay", _("relay")
        WORKER = "worker", _("worker")
        BEAT = "beat", _("beat")
        BROKER = "broker", _("broker: a message passed through it")
        CANARY = "canary", _("canary")
        OUTAGE = "outage", _("outage of the database")
        RECEIVER = "receiver", _("receiver of a source")
        SENDER = "sender", _("sender whose messages a queue refuses")

    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    name = models.CharField(_("name"), max_length=200)
    queues = models.JSONField(_("queues"), default=list)
    started_at = models.DateTimeField(_("started at"))
    seen_at = models.DateTimeField(_("seen at"))
    host_offset = models.FloatField(
        _("host clock ahead by"),
        default=0,
        help_text=_("Seconds by which the host's clock is ahead of the database's."),
    )
    failure = models.CharField(
        _("failure"),
        max_length=300,
        blank=True,
        default="",
        db_default="",
        help_text=_("Of a relay: the error of its latest pass; empty if that succeeded."),
    )
    refused = models.JSONField(
        _("refused queues"),
        null=True,
        blank=True,
        help_text=_(
            "Of a sender: the queues that take none of its messages, each with cause and time."
        ),
    )

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


class Minute(Row):
    """Throughput of one minute: of one handler, or of all ("").

    Workers add their counts every ten seconds, so no query has to count deliveries. `lag_0` and so
    on are a histogram: the number of deliveries by the seconds from their event's emission
    until they were done. `counters.WAIT_BOUNDS` has the bounds.
    """

    id = models.BigAutoField(primary_key=True)
    minute = models.DateTimeField(_("minute"))
    handler = models.CharField(_("handler"), max_length=150, blank=True)
    events = _count()
    done = _count()
    failed = _count()
    dead = _count()
    seconds = models.FloatField(default=0, help_text=_("Total run time of the handlers."))
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
    few_lags = models.JSONField(
        null=True,
        editable=False,
        help_text=_("The seconds of each done delivery, if they are few."),
    )

    class Meta:
        # The name of the admin page that these rows are drawn on.
        verbose_name = _("overview")
        verbose_name_plural = _("overview")
        constraints = [
            models.UniqueConstraint(fields=["handler", "minute"], name="outbox_minute_once")
        ]

    def __str__(self) -> str:
        return f"{self.minute:%Y-%m-%d %H:%M} {self.handler}"
