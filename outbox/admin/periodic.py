"""Periodic tasks that beat starts: their schedule, last and next run, and which are late.

They are read from django-celery-beat's rows if it is installed. Otherwise they are read from the
schedule in the settings, which has no times of runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from outbox import clock
from outbox.formatting import one_line
from outbox.monitor.health import PartHealth, health_of_parts
from outbox.templatetags.outbox_display import span
from outbox.transports.celery_app import beat_schedule

from .base import ReadOnlyAdmin
from .pages import show

#: By default, beat stores its last runs every three minutes.
PATIENCE = timedelta(minutes=5)
_BEAT = "django_celery_beat"


@dataclass(frozen=True, kw_only=True)
class PeriodicTaskRow:
    """One entry of the schedule.

    Attributes:
        name: name of the entry.
        task: name of the task.
        queue: its queue; "" if the task's own routing decides.
        schedule: the schedule in words.
        is_enabled: whether beat starts it.
        last: time of its last start, or None if it was never started or this is unknown.
        next: time of its next start, or None if there is none.
        url: the page that changes it, or "".
        fault: why beat cannot compute its next start, or "".
    """

    name: str
    task: str
    queue: str = ""
    schedule: str
    is_enabled: bool = True
    last: datetime | None = None
    next: datetime | None = None
    url: str = ""
    fault: str = ""

    @property
    def late(self) -> timedelta:
        """How long its start is overdue; zero up to `PATIENCE`."""
        if not self.is_enabled or self.next is None:
            return timedelta(0)
        behind = clock.now() - self.next
        return behind if behind > PATIENCE else timedelta(0)

    @property
    def status(self) -> tuple[str, str]:
        """Its condition: the delivery state whose colour it has, and the words."""
        if not self.is_enabled:
            return "parked", _("off")
        if self.fault:
            return "dead", _("invalid schedule: %s") % self.fault
        if self.late:
            return "dead", _("late by %s") % span(self.late)
        return "done", _("on")


def periodic_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Show each entry of the schedule, late ones first, and the health of beat."""
    page.require_view(request)
    return show(
        request,
        "admin/outbox/minute/periodic.html",
        of=page,
        title=_("Periodic tasks"),
        periodic_tasks=periodic_tasks(
            may_change=request.user.has_perm(f"{_BEAT}.view_periodictask")
        ),
        beat=_beat(),
        is_remembered=apps.is_installed(_BEAT),
    )


def periodic_tasks(*, may_change: bool = False) -> Sequence[PeriodicTaskRow]:
    """Return all entries: invalid and late ones first, disabled ones last."""
    found = _of_rows(may_change=may_change) if apps.is_installed(_BEAT) else _of_settings()
    return sorted(found, key=lambda one: (not one.is_enabled, not one.fault, -one.late, one.name))


def _of_rows(*, may_change: bool) -> list[PeriodicTaskRow]:
    model = apps.get_model(_BEAT, "PeriodicTask")
    rows = model._default_manager.exclude(name="celery.backend_cleanup")
    kinds = ("interval", "crontab", "solar", "clocked")
    return [_of_row(row, may_change=may_change) for row in rows.select_related(*kinds)]


def _of_row(row: Any, *, may_change: bool) -> PeriodicTaskRow:
    due: datetime | None = None
    fault = ""
    try:
        due = _next(row) if row.enabled else None
    except Exception as error:  # of a schedule that has no date, such as 30 February
        fault = one_line(f"{type(error).__name__}: {error}")
    return PeriodicTaskRow(
        name=row.name,
        task=row.task,
        queue=row.queue or "",
        schedule=_in_words(row.schedule) if row.interval else str(row.scheduler),
        is_enabled=row.enabled,
        last=row.last_run_at,
        next=due,
        url=_url(row.pk) if may_change else "",
        fault=fault,
    )


def _next(row: Any) -> datetime:
    """Compute the next start from the last run, or from the last change of the entry."""
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
        for name, entry in beat_schedule().items()
    ]


def _in_words(schedule: Any) -> str:
    every = getattr(schedule, "run_every", None)
    return _("every %s") % span(every) if every else str(schedule)


def _beat() -> PartHealth | None:
    """Return the health of beat; None without a broker, where `outbox work` runs the outbox's."""
    return next((part for part in health_of_parts() if part.part == "beat"), None)
