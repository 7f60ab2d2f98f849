"""Periodic work: what beat starts by the clock, when it last did and does next, and what is late.

With django-celery-beat its rows tell; without it the schedule of the settings does, of which nobody
remembers when it ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from celery.schedules import maybe_schedule
from django.apps import apps
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from outbox import clock
from outbox.monitor.health import Light, lights
from outbox.templatetags.outbox_display import span

from .base import ReadOnlyAdmin
from .pages import show

#: Beat writes down what it started every three minutes, unless it is told otherwise.
PATIENCE = timedelta(minutes=5)
_BEAT = "django_celery_beat"


@dataclass(frozen=True, kw_only=True)
class PeriodicTaskRow:
    """One entry of the schedule.

    Attributes:
        name: the entry's.
        task: what is started.
        queue: where it goes; "" where the task's own routing decides.
        schedule: when, in words.
        is_enabled: whether beat starts it.
        last: when beat last did, or None if it never did or nobody remembers.
        next: when it does next, or None if it does not.
        url: the page where one may change it, or "".
    """

    name: str
    task: str
    queue: str = ""
    schedule: str
    is_enabled: bool = True
    last: datetime | None = None
    next: datetime | None = None
    url: str = ""

    @property
    def late(self) -> timedelta:
        """How long it should have been started ago; nothing while that is no reason to worry."""
        if not self.is_enabled or self.next is None:
            return timedelta(0)
        behind = clock.now() - self.next
        return behind if behind > PATIENCE else timedelta(0)

    @property
    def standing(self) -> tuple[str, str]:
        """Say how it does: the state that colours it, and the words."""
        if not self.is_enabled:
            return "parked", _("off")
        if self.late:
            return "dead", _("late by %s") % span(self.late)
        return "done", _("on")


def periodic_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Show each entry of the schedule, what is late first, and whether beat lives."""
    page.require_view(request)
    return show(
        request,
        "admin/outbox/minute/periodic.html",
        of=page,
        title=_("Periodic work"),
        works=works(may_change=request.user.has_perm(f"{_BEAT}.view_periodictask")),
        beat=_beat(),
        is_remembered=apps.is_installed(_BEAT),
    )


def works(*, may_change: bool = False) -> Sequence[PeriodicTaskRow]:
    """Return each entry: what is late first, what is off last."""
    found = _of_rows(may_change=may_change) if apps.is_installed(_BEAT) else _of_settings()
    return sorted(found, key=lambda one: (not one.is_enabled, -one.late, one.name))


def _of_rows(*, may_change: bool) -> list[PeriodicTaskRow]:
    model = apps.get_model(_BEAT, "PeriodicTask")
    rows = model._default_manager.exclude(name="celery.backend_cleanup")
    kinds = ("interval", "crontab", "solar", "clocked")
    return [
        PeriodicTaskRow(
            name=row.name,
            task=row.task,
            queue=row.queue or "",
            schedule=_in_words(row.schedule) if row.interval else str(row.scheduler),
            is_enabled=row.enabled,
            last=row.last_run_at,
            next=_next(row) if row.enabled else None,
            url=_url(row.pk) if may_change else "",
        )
        for row in rows.select_related(*kinds)
    ]


def _next(row: Any) -> datetime:
    """Reckon from when it last ran, or from when somebody last touched the entry."""
    left: timedelta = row.schedule.remaining_estimate(row.last_run_at or row.date_changed)
    due = (clock.now() + left + timedelta(seconds=0.5)).replace(microsecond=0)
    return max(due, row.start_time) if row.start_time else due


def _url(pk: int) -> str:
    try:
        return reverse(f"admin:{_BEAT}_periodictask_change", args=[pk])
    except NoReverseMatch:
        return ""


def _of_settings() -> list[PeriodicTaskRow]:
    return [
        PeriodicTaskRow(
            name=name,
            task=entry["task"],
            queue=entry.get("options", {}).get("queue", ""),
            schedule=_in_words(entry["schedule"]),
        )
        for name, entry in current_app.conf.beat_schedule.items()
    ]


def _in_words(schedule: Any) -> str:
    known = maybe_schedule(schedule)
    every = getattr(known, "run_every", None)
    return _("every %s") % span(every) if every else str(known)


def _beat() -> Light:
    return next(light for light in lights() if light.part == "beat")
