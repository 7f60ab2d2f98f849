"""The pages about all handlers: condition, throughput and policy of each, and the map of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import formats
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from outbox import events
from outbox.counting import minutes
from outbox.counting.minutes import Totals
from outbox.drawing.map import Arrow, Network, network_map
from outbox.formatting import retry_policy
from outbox.models import Subscription
from outbox.monitor.status import HandlerStatus, status
from outbox.monitor.stops import BREAKER, END
from outbox.sinks.configuration import sink_name
from outbox.templatetags.outbox_display import NOTHING, span, span_of_seconds

from .base import ReadOnlyAdmin, may
from .links import events_url
from .pages import show

_RECENT = timedelta(minutes=15)
_COLOURS = {BREAKER: "dead", END: "discarded"}


@dataclass(frozen=True)
class HandlerRow:
    """One handler: its owed deliveries, recent throughput, and policy.

    Attributes:
        owed: its outstanding deliveries.
        recent: its totals of the last 15 minutes.
        subscriptions: its rows, one for each event.
        oldest: age of its oldest owed event.
        has_failures: whether to show the failures behind an open breaker.
    """

    owed: HandlerStatus
    recent: Totals
    subscriptions: Sequence[Subscription]
    oldest: timedelta | None
    has_failures: bool

    @property
    def first(self) -> Subscription:
        """One of its subscriptions; the policy is the same in all."""
        return self.subscriptions[0]

    @property
    def has_open_breaker(self) -> bool:
        """Whether one of its breakers is open."""
        return any(row.breaker_opened_at for row in self.subscriptions)

    @property
    def status(self) -> tuple[str, str]:
        """Its condition: the delivery state whose colour it has, and the words."""
        stop = self.owed.stop
        return (_COLOURS.get(stop.kind, "parked"), stop.label) if stop else ("done", _("running"))

    @property
    def why(self) -> str:
        """Why it does not run."""
        stop = self.owed.stop
        if stop is None:
            return ""
        return self.owed.held_text or stop.cause_and_reason

    @property
    def button(self) -> str:
        """Its button: "pause", "resume", or "" if it is held by a backfill and paused otherwise."""
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
        return _rate(self.recent.done / (_RECENT.total_seconds() / 60))

    @property
    def median(self) -> str:
        """Median time from commit to done."""
        return span_of_seconds(self.recent.lag(0.5))

    @property
    def p95(self) -> str:
        """95th percentile of the time from commit to done."""
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


def _shown(request: HttpRequest) -> dict[str, Any]:
    rows = handler_rows(has_failures=may(request, "see failures"))
    return {
        "handlers": rows,
        "may_pause": may(request, "pause"),
        "may_see_events": may(request, "see events"),
    }


def handler_rows(*, has_failures: bool) -> list[HandlerRow]:
    """Return each handler; cost: two queries more than `status`."""
    rows: dict[str, list[Subscription]] = {}
    for row in Subscription.objects.order_by("handler", "event"):
        rows.setdefault(row.handler, []).append(row)
    found = status(has_failures=has_failures)
    recent = minutes.by_handler(list(rows), length=_RECENT)
    return [
        HandlerRow(
            owed,
            recent[owed.handler],
            rows[owed.handler],
            found.age(owed.oldest),
            has_failures=has_failures,
        )
        for owed in found.handlers
        if owed.handler in rows
    ]


def _rate(per_minute: float) -> str:
    return formats.number_format(per_minute, 1 if per_minute < 10 else 0)


def network() -> Network:
    """Return the declared events, and the active subscriptions of all releases."""
    rows = list(Subscription.objects.filter(active=True).order_by("handler", "event"))
    per_minute = minutes.rates()
    notes = {name: _("%s per minute") % _rate(per_minute[name]) for name in per_minute}
    # The outbox's own events need no subscriber: those of received messages exist without a source.
    declared = [
        name
        for name in events.registry
        if not name.startswith("outbox.") or any(row.selects(name) for row in rows)
    ]
    names = sorted({*declared, *per_minute})
    arrows = [
        Arrow(
            event=name,
            handler=row.handler,
            note=_("held") if row.is_held else _settled_by(row),
            is_held=row.is_held,
        )
        for row in rows
        for name in (
            [n for n in names if row.selects(n)] if row.has_several_events else [row.event]
        )
    ]
    return Network(
        events=names,
        handlers=sorted({row.handler for row in rows}),
        arrows=arrows,
        notes=notes,
    )


def _settled_by(row: Subscription) -> str:
    """Name the consumers that settle the events of a sink; "" for another handler."""
    names = ", ".join(row.consumer_names)
    return _("settled by %s") % names if names else ""


def map_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Show the map to users with the permission to view subscriptions."""
    page.require_view(request)
    shown = network()
    picture = network_map(
        shown,
        event_address=lambda name: events_url(name=name),
        handler_address=_subscriptions_url,
    )
    template = "admin/outbox/subscription/map.html"
    return show(request, template, of=page, title=_("Map"), network=shown, picture=picture)


def _subscriptions_url(handler: str) -> str:
    return f"{reverse('admin:outbox_subscription_changelist')}?{urlencode({'q': handler})}"
