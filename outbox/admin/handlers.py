"""The page of all handlers by app: condition, failures, throughput and policy of each.

Handlers that need attention come first, and their apps. Those without work are folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import formats
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from outbox.counting import minutes
from outbox.counting.minutes import Totals
from outbox.drawing.sequence import app_of
from outbox.drawing.sparkline import sparkline
from outbox.formatting import retry_policy
from outbox.models import Subscription
from outbox.monitor.failing import failure_groups
from outbox.monitor.failures import FailureGroup
from outbox.monitor.status import HandlerStatus, status
from outbox.monitor.stops import BREAKER, END
from outbox.sinks.configuration import sink_name
from outbox.templatetags.outbox_display import NOTHING, span, span_of_seconds

from .base import ReadOnlyAdmin, may
from .pages import show

_RECENT = timedelta(minutes=15)
#: The time that a sparkline covers.
_DRAWN = timedelta(minutes=30)
_COLOURS = {BREAKER: "dead", END: "discarded"}


@dataclass(frozen=True)
class HandlerRow:
    """One handler: its owed deliveries, recent throughput, and policy.

    Attributes:
        owed: its outstanding deliveries.
        recent: its totals of the last 15 minutes.
        subscriptions: its rows, one for each event; those that the code has first.
        oldest: age of its oldest owed event.
        minutes: done and failed in each of the last minutes; empty without any.
        failures: its failing and dead deliveries by cause, failing ones first.
        has_failures: whether the user may view deliveries: show exceptions, and link to lists.
    """

    owed: HandlerStatus
    recent: Totals
    subscriptions: Sequence[Subscription]
    oldest: timedelta | None
    minutes: Sequence[tuple[int, int]] = ()
    failures: Sequence[FailureGroup] = ()
    has_failures: bool = False

    @property
    def first(self) -> Subscription:
        """One of its subscriptions. The policy is the same in all that the code has."""
        return self.subscriptions[0]

    @property
    def has_open_breaker(self) -> bool:
        """Whether a breaker of an active subscription is open."""
        return any(row.active and row.breaker_opened_at for row in self.subscriptions)

    @property
    def status(self) -> tuple[str, str]:
        """Its condition: the delivery state whose colour it has, and the words."""
        stop = self.owed.stop
        if stop:
            return _COLOURS.get(stop.kind, "parked"), stop.label
        if self.is_failing:
            return "failing", _("failing")
        return ("sent", _("idle")) if self.is_idle else ("done", _("running"))

    @property
    def is_failing(self) -> bool:
        """Whether a delivery is tried again after a failure."""
        return any(one.is_failing for one in self.failures)

    @property
    def needs_attention(self) -> bool:
        """Whether a delivery is failing or dead."""
        return bool(self.is_failing or self.owed.dead)

    @property
    def shown_failures(self) -> Sequence[FailureGroup]:
        """Its failures for a user who may see them."""
        return self.failures if self.has_failures else ()

    @property
    def is_idle(self) -> bool:
        """Whether it runs, owes nothing, and did nothing in the last minutes."""
        is_quiet = not any(done or failed for done, failed in self.minutes)
        return is_quiet and not (self.owed.stop or self.counts)

    @property
    def urgency(self) -> int:
        """Its place among others: failing, dead letters, stopped, running, idle."""
        if self.needs_attention:
            return 0 if self.is_failing else 1
        return 2 if self.owed.stop else 4 if self.is_idle else 3

    @property
    def sparkline(self) -> SafeString:
        """Its last minutes as a drawing."""
        return sparkline(self.minutes or [(0, 0)] * round(_DRAWN / timedelta(minutes=1)))

    @property
    def why(self) -> str:
        """Why it does not run."""
        stop = self.owed.stop
        if stop is None:
            return ""
        return self.owed.held_text or stop.cause_and_reason

    @property
    def button(self) -> str:
        """Its button: "pause", "resume" or "".

        It has none if it has ended, or if a backfill holds it and another pause is set, too.
        """
        if self.owed.stop is not None and self.owed.stop.kind == END:
            return ""
        if self.owed.backfill:
            # A pause by a person outlasts the backfill.
            is_its = self.owed.paused_by.startswith(Subscription.PAUSED_BY_BACKFILL)
            return "pause" if is_its else ""
        return "resume" if self.owed.paused_at else "pause"

    @property
    def sink(self) -> str:
        """The name of its sink, or ""."""
        return sink_name(self.owed.handler)

    @property
    def event_names(self) -> list[str]:
        """The names of its events."""
        return [row.event for row in self.subscriptions]

    @property
    def rate(self) -> str:
        """Deliveries done per minute."""
        return rate_text(self.recent.done / (self.recent.length / timedelta(minutes=1)))

    @property
    def median(self) -> str:
        """Median time from emission to done."""
        return span_of_seconds(self.recent.lag(0.5))

    @property
    def p95(self) -> str:
        """95th percentile of the time from emission to done."""
        return span_of_seconds(self.recent.lag(0.95))

    @property
    def duration(self) -> str:
        """Mean duration of a run."""
        return span_of_seconds(self.recent.mean_seconds)

    @property
    def errors(self) -> str:
        """Share of runs that failed."""
        share = self.recent.error_share
        return NOTHING if share is None else f"{share:.0%}"

    @property
    def oldest_age(self) -> str:
        """Age of its oldest owed event."""
        return span(self.oldest) if self.oldest is not None else NOTHING

    @property
    def policy(self) -> str:
        """Its attempts and its backoff."""
        row = self.first
        return retry_policy(row.attempts, row.backoff_base, row.backoff_cap)

    @property
    def counts(self) -> list[tuple[str, int]]:
        """Number of owed deliveries by state, without zeros."""
        states = ("dead", "parked", "blocked", "pending", "sent")
        return [(state, number) for state in states if (number := getattr(self.owed, state))]


def handlers_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Show each handler."""
    page.require_view(request)
    return show(
        request,
        "admin/outbox/subscription/handlers.html",
        of=page,
        title=_("Handlers"),
        forms=("pause", "resume", "close_breaker"),
        **_shown(request),
    )


def handlers_part(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Return only the part of the page that changes."""
    page.require_view(request)
    return render(request, "outbox/handlers.html", _shown(request))


@dataclass(frozen=True)
class AppHandlers:
    """The handlers of one app.

    Attributes:
        rows: those with work, and those that need attention, which come first.
        idle: those without work.
    """

    app: str
    rows: Sequence[HandlerRow]
    idle: Sequence[HandlerRow]

    @property
    def urgency(self) -> int:
        """The place of the app: that of its first handler."""
        return min(row.urgency for row in (*self.rows, *self.idle))

    @property
    def failing(self) -> int:
        """The number of its handlers with failing or dead deliveries."""
        return sum(row.needs_attention for row in self.rows)


def _shown(request: HttpRequest) -> dict[str, Any]:
    rows = handler_rows(has_failures=may(request, "see failures"))
    return {
        "apps": by_app(rows),
        "may_pause": may(request, "pause"),
        "may_see_events": may(request, "see events"),
    }


def by_app(rows: Sequence[HandlerRow]) -> list[AppHandlers]:
    """Group handlers by app; the apps and handlers that need attention come first."""
    apps: dict[str, list[HandlerRow]] = {}
    for row in sorted(rows, key=lambda row: (row.urgency, row.owed.handler)):
        apps.setdefault(app_of(row.owed.handler), []).append(row)
    found = [
        AppHandlers(
            app,
            [row for row in own if not row.is_idle],
            [row for row in own if row.is_idle],
        )
        for app, own in apps.items()
    ]
    return sorted(found, key=lambda one: (one.urgency, one.app))


def handler_rows(*, has_failures: bool) -> list[HandlerRow]:
    """Return each handler; cost: three queries more than `status` and `failure_groups`."""
    rows: dict[str, list[Subscription]] = {}
    for row in Subscription.objects.order_by("handler", "-known", "event"):
        rows.setdefault(row.handler, []).append(row)
    found = status(has_failures=has_failures)
    recent = minutes.by_handler(list(rows), length=_RECENT)
    drawn = minutes.series_by_handler(length=_DRAWN)
    failures: dict[str, list[FailureGroup]] = {}
    for group in failure_groups():
        failures.setdefault(group.handler, []).append(group)
    return [
        HandlerRow(
            owed,
            recent[owed.handler],
            rows[owed.handler],
            found.age(owed.oldest),
            minutes=drawn.get(owed.handler, ()),
            failures=failures.get(owed.handler, ()),
            has_failures=has_failures,
        )
        for owed in found.handlers
        if owed.handler in rows
    ]


def rate_text(per_minute: float) -> str:
    """Return a rate with a decimal if it is small."""
    return formats.number_format(per_minute, 1 if per_minute < 10 else 0)
