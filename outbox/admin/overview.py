"""The overview: owed deliveries, throughput, health, failures, next step; the health checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from math import inf
from typing import Any

from django.contrib import admin
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path
from django.utils import formats, timezone
from django.utils.decorators import method_decorator
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import conditional_page

from outbox import clock, databases, doctor
from outbox.counting import minutes
from outbox.counting.counters import WAIT_BOUNDS
from outbox.counting.minutes import Totals
from outbox.doctor import Finding
from outbox.drawing.chart import Series, chart
from outbox.models import Event, Minute
from outbox.monitor.failures import FailureGroup, unexamined_text
from outbox.monitor.groups import Group, groups
from outbox.monitor.health import PartHealth, health_of_parts
from outbox.monitor.status import Status, status
from outbox.templatetags.outbox_display import span, span_of_seconds

from .advice import Advice, advice
from .base import ReadOnlyAdmin, may
from .contracts import contracts_download, contracts_view
from .links import dead_url, deliveries_url, events_url, settlements_url
from .pages import may_open, show
from .periodic import periodic_view
from .search import search_view

_RECENT = timedelta(minutes=5)
_GROUPS_SHOWN = 5
_DEAD_GROUPED = 1000

_LEVELS: Mapping[str, tuple[str, str | Promise]] = {
    doctor.OK: ("done", gettext_lazy("ok")),
    doctor.WARNING: ("parked", gettext_lazy("warning")),
    doctor.ERROR: ("dead", gettext_lazy("error")),
}


@dataclass(frozen=True)
class Tile:
    """One number with its name and link."""

    name: str
    value: str
    url: str = ""
    is_bad: bool = False


@dataclass(frozen=True)
class Span:
    """A span of time with its charts."""

    title: str | Promise
    charts: Sequence[SafeString]


@dataclass(frozen=True)
class Overview:
    """The data of the page; each part is read on first access.

    Attributes:
        now: time of the request.
        has_failures: whether to show exceptions, and the reasons of open breakers.
        may_open: whether the user may open a URL. Other links are left out.
    """

    now: datetime
    has_failures: bool
    may_open: Callable[[str], bool] = field(default=lambda _url: True)

    @cached_property
    def status(self) -> Status:
        """Outstanding deliveries."""
        return status(has_failures=self.has_failures)

    @cached_property
    def health(self) -> Sequence[PartHealth]:
        """The health of each part."""
        return health_of_parts(failing=self.status.failing, has_failures=self.has_failures)

    @cached_property
    def groups(self) -> Sequence[Group]:
        """Groups of the newest dead deliveries, the largest first."""
        return groups(most=_DEAD_GROUPED)

    @property
    def failing(self) -> Sequence[FailureGroup]:
        """The largest failing groups."""
        return self.status.failing[:_GROUPS_SHOWN]

    @property
    def unexamined(self) -> list[str]:
        """A sentence for each handler of which only a sample was examined."""
        return [unexamined_text(handler) for handler in self.status.unexamined]

    @property
    def more_failing(self) -> int:
        """The number of other failing groups."""
        return max(0, len(self.status.failing) - _GROUPS_SHOWN)

    @property
    def top_groups(self) -> Sequence[Group]:
        """The largest groups."""
        return self.groups[:_GROUPS_SHOWN]

    @property
    def more_groups(self) -> int:
        """The number of other groups."""
        return max(0, len(self.groups) - _GROUPS_SHOWN)

    @cached_property
    def is_empty(self) -> bool:
        """Whether no event was ever emitted."""
        return Event.objects.aggregate(last=Max("seq"))["last"] is None

    @cached_property
    def advice(self) -> Advice:
        """The most urgent next step."""
        found = advice(self.status, self.health, self.groups, has_failures=self.has_failures)
        return found if self.may_open(found.url) else replace(found, url="")

    @property
    def tiles(self) -> list[Tile]:
        """The most important numbers."""
        return [
            one if self.may_open(one.url) else replace(one, url="") for one in self._every_tile()
        ]

    def _every_tile(self) -> list[Tile]:
        handlers, recent = self.status.handlers, minutes.recent(_RECENT)
        pending = sum(one.pending for one in handlers)
        failing = sum(one.failing for one in handlers)
        dead = sum(one.dead for one in handlers)
        return [
            Tile(_("pending"), _number(pending), deliveries_url(state="pending")),
            Tile(_("failing"), _number(failing), dead_url(), is_bad=bool(failing)),
            Tile(_("dead"), _number(dead), dead_url(), is_bad=bool(dead)),
            *self._late(),
            Tile(_("oldest owed"), self._oldest(), events_url(state="owed")),
            Tile(_("events per second"), _rate(recent.events / recent.length.total_seconds())),
            Tile(_("median time to done"), span_of_seconds(recent.lag(0.5))),
            Tile(_("95th percentile to done"), span_of_seconds(recent.lag(0.95))),
        ]

    @property
    def spans(self) -> list[Span]:
        """The charts of the last hour and the last day."""
        hour = {"length": timedelta(hours=1), "step": timedelta(minutes=1)}
        day = {"length": timedelta(days=1), "step": timedelta(minutes=15)}
        return [
            Span(_("The last hour"), _charts(minutes.series(end=self.now, **hour))),
            Span(_("The last day"), _charts(minutes.series(end=self.now, **day))),
        ]

    def _late(self) -> Iterator[Tile]:
        """Yield the number of late settlements, if other systems owe any."""
        if consumers := self.status.consumers:
            late = sum(one.late for one in consumers)
            url = settlements_url(state="late")
            yield Tile(_("late settlements"), _number(late), url, is_bad=bool(late))

    def _oldest(self) -> str:
        owed = [one.oldest for one in self.status.handlers if one.oldest]
        oldest = min([*owed, *filter(None, [self.status.oldest_waiting])], default=None)
        age = self.status.age(oldest)
        return span(age) if age is not None else _("none")


@admin.register(Minute)
class OverviewAdmin(ReadOnlyAdmin):
    """Serves the overview at the URL of the list of minutes, which is not shown."""

    def get_urls(self) -> list[URLPattern]:
        """Serve the overview, its live part, health checks, periodic tasks and contracts."""
        view = self.admin_site.admin_view
        periodic = view(partial(periodic_view, self))
        contracts = view(partial(contracts_view, self))
        download = view(partial(contracts_download, self))
        return [
            path("", view(self.changelist_view), name="outbox_minute_changelist"),
            path("part/", view(self.part), name="outbox_minute_part"),
            path("search/", view(partial(search_view, self)), name="outbox_minute_search"),
            path("health-checks/", view(self.health_checks), name="outbox_minute_health_checks"),
            path("periodic/", periodic, name="outbox_minute_periodic"),
            path("contracts/", contracts, name="outbox_minute_contracts"),
            path("contracts/asyncapi.json", download, name="outbox_minute_contracts_download"),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the overview."""
        self.require_view(request)
        context = {"overview": _overview(request), **(extra_context or {})}
        template = "admin/outbox/minute/overview.html"
        return show(request, template, of=self, title=_("Overview"), **context)

    @method_decorator(conditional_page)
    def part(self, request: HttpRequest) -> HttpResponse:
        """Return only the part of the overview that changes, or 304 if it is unchanged."""
        self.require_view(request)
        return render(request, "outbox/overview.html", {"overview": _overview(request)})

    def health_checks(self, request: HttpRequest) -> HttpResponse:
        """Show the doctor's findings without the broker, since no web request connects to it."""
        self.require_view(request)
        template = "admin/outbox/minute/health_checks.html"
        found = findings(has_failures=may(request, "see failures"))
        return show(request, template, of=self, title=_("Health checks"), findings=found)


@dataclass(frozen=True)
class ShownFinding:
    """A finding with the word and the colour of its severity."""

    finding: Finding

    @property
    def level(self) -> str:
        """The delivery state whose colour it has."""
        return _LEVELS[self.finding.severity][0]

    @property
    def word(self) -> str | Promise:
        """Its severity in words."""
        return _LEVELS[self.finding.severity][1]


def findings(*, using: str | None = None, has_failures: bool = True) -> list[ShownFinding]:
    """Return the findings, the most severe first.

    Args:
        using: the outbox's database alias.
        has_failures: name the exceptions of failing handlers.
    """
    using = using or databases.alias()
    order = list(_LEVELS)[::-1]
    found = doctor.examine_without_broker(using=using, has_failures=has_failures)
    found.sort(key=lambda one: order.index(one.severity))
    return [ShownFinding(finding) for finding in found]


def _overview(request: HttpRequest) -> Overview:
    return Overview(
        clock.now(),
        has_failures=may(request, "see failures"),
        may_open=partial(may_open, request.user),
    )


def _charts(found: Sequence[Totals]) -> list[SafeString]:
    times = [formats.date_format(timezone.localtime(one.start), "H:i") for one in found]
    through = [
        Series(_("events"), [one.events for one in found]),
        Series(_("done"), [one.done for one in found], shape="dashed", tone="good"),
    ]
    lag = [
        Series(_("median"), [_drawn_lag(one, 0.5) for one in found], tone="good"),
        Series(_("95th percentile"), [_drawn_lag(one, 0.95) for one in found], shape="dashed"),
    ]
    failures = [
        Series(_("failed attempts"), [one.failed for one in found], shape="bars", tone="plain"),
        Series(_("dead"), [one.dead for one in found], shape="bars", tone="bad"),
    ]
    return [
        chart(through, times=times, label=_("Throughput: events and deliveries done")),
        chart(
            lag,
            times=times,
            label=_("From emission to done"),
            format_value=span_of_seconds,
            min_top=0.1,
        ),
        chart(failures, times=times, label=_("Failures")),
    ]


def _drawn_lag(totals: Totals, share: float) -> float | None:
    """Return a lag; the last bound of the histogram for one that is beyond it."""
    lag = totals.lag(share)
    return WAIT_BOUNDS[-1] if lag == inf else lag


def _number(value: int) -> str:
    return formats.number_format(value, use_l10n=True, force_grouping=True)


def _rate(value: float) -> str:
    return formats.number_format(value, 1 if value >= 0.05 or not value else 2)
