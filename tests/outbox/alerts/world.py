"""Heartbeats, problems and settings for the tests of alerts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.test import override_settings
from django.utils import timezone

from outbox.alerts.configuration import AlertsConfig, configured
from outbox.alerts.findings import Findings, Problem
from outbox.alerts.recording import record
from outbox.alerts.sending import Sender
from outbox.models import Heartbeat

Kind = Heartbeat.Kind

MAIL = {"EMAIL": ["oncall@example.com"]}
STUCK = "parcels.label_parcel has 3 dead deliveries: ValueError (parcels/handlers.py:7)."


def alerts(**values: Any) -> AlertsConfig:
    """Return the configuration of `OUTBOX["ALERTS"]`; without channels it has an e-mail channel."""
    given = {"CHANNELS": {"mail": MAIL}, **values}
    with override_settings(OUTBOX={"ALERTS": given}):
        return configured()


def hook_config(url: str, **values: Any) -> AlertsConfig:
    return alerts(CHANNELS={"chat": {"WEBHOOK": url, **values}})


def problem(key: str = "dead:parcels", *, trigger: str = "dead", text: str = STUCK) -> Problem:
    return Problem(key=key, trigger=trigger, text=text, path="/admin/outbox/delivery/dead/")


def check(config: AlertsConfig, *problems: Problem, unexamined: tuple[str, ...] = ()) -> None:
    """Store the findings of a check that has found these problems."""
    found = Findings(
        at=timezone.now(),
        problems={one.key: one for one in problems},
        unexamined=unexamined,
    )
    record(found, config, using="default")


def send(config: AlertsConfig) -> int:
    """Send the due messages of all channels, and return the number of messages."""
    channels = config.channels.values()
    return sum(Sender(one, config, using="default").send_due() for one in channels)


def beat(*kinds: str, ago: float = 0.0) -> None:
    """Store the heartbeats of these parts, some seconds old."""
    seen = timezone.now() - timedelta(seconds=ago)
    for kind in kinds:
        values = {"started_at": seen, "seen_at": seen}
        Heartbeat.objects.update_or_create(kind=kind, name=str(kind), defaults=values)
