"""Subscriptions: the list, their condition, and pausing a handler."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from django.contrib import admin, messages
from django.db.models import BooleanField, IntegerField, OuterRef, QuerySet, Subquery, Value
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import conditional_page

from outbox import operations
from outbox.deliveries.pauses import holder, holding_backfill
from outbox.formatting import retry_policy
from outbox.models import Delivery, Operation, Subscription
from outbox.monitor.stops import BREAKER, END, PAUSE, Stop, stop_of
from outbox.templatetags.outbox_display import (
    NOTHING,
    actor,
    link,
    span_of_seconds,
    timestamp,
    with_code,
)

from .base import ReadOnlyAdmin, ReasonForm, acting_user, may
from .event_map import map_view
from .handlers import handlers_part, handlers_view
from .links import deliveries_url, handlers_url, viewer_of

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

State = Delivery.State

_COUNTED = 1000

_COLOURS = {BREAKER: State.DEAD, END: State.DISCARDED}

_PAUSE = gettext_lazy(
    "No further delivery of these handlers starts. Their deliveries wait in the database until "
    "you resume the handlers. Other handlers are not affected."
)

_CLOSE = gettext_lazy(
    "The due deliveries of these handlers are sent at once, without a probe. A delivery that "
    "failed while the breaker was open waits for the time of the next probe, or until you retry "
    "it. The first messages carry few. Close a breaker only if the external system works again. "
    "Otherwise it opens again."
)


class _Counts(TypedDict):
    has_failures: bool
    pending: int
    sent: int
    dead: int
    parked: int
    blocked: int


if TYPE_CHECKING:
    Counted = WithAnnotations[Subscription, _Counts]


class _BoundedCount(Subquery):
    """Counts the rows of a limited subquery, as a handler may be owed very many."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) outbox_counted)"
    output_field = IntegerField()


def _count(state: str) -> _BoundedCount:
    mine = Delivery.objects.filter(subscription=OuterRef("pk"), state=state)
    return _BoundedCount(mine.order_by().values("pk")[: _COUNTED + 1])


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnlyAdmin):
    """All subscriptions with their policy and their owed deliveries."""

    list_display = ["handler", "status_shown", "owed", "event", "queue", "policy"]
    list_filter = ["known", "queue"]
    ordering = ["handler", "event"]
    search_fields = ["handler", "event"]
    actions = ["pause", "resume", "close_breaker"]
    empty_text = gettext_lazy(
        "No handler is subscribed. Add a function with @subscribe to the handlers.py of an app, "
        "then run migrate."
    )
    fieldsets = [
        (None, {"fields": ["handler", "event", "status_shown", "owed", "since_shown"]}),
        (gettext_lazy("Policy"), {"fields": ["queue", "policy", "atomic", "window_now"]}),
    ]

    def get_urls(self) -> list[URLPattern]:
        """Add map and handlers before Django's pattern, which matches any path as a row."""
        view, name = self.admin_site.admin_view, "outbox_subscription"
        part = conditional_page(partial(handlers_part, self))
        return [
            path("map/", view(partial(map_view, self)), name=f"{name}_map"),
            path("handlers/", view(partial(handlers_view, self)), name=f"{name}_handlers"),
            path("handlers/part/", view(part), name=f"{name}_handlers_part"),
            *super().get_urls(),
        ]

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """Return to the page of handlers if the action was started there."""
        response = super().response_action(request, queryset, *args, **kwargs)
        is_done = response is None or isinstance(response, HttpResponseRedirect)
        if is_done and "to_handlers" in request.POST:
            return HttpResponseRedirect(handlers_url())
        return response

    def get_queryset(self, request: HttpRequest) -> Any:
        """Add the bounded number of owed deliveries by state."""
        rows = super().get_queryset(request)
        has_failures = Value(may(request, "see failures"), output_field=BooleanField())
        counts = {state.value: _count(state) for state in Delivery.OWED}
        return rows.annotate(has_failures=has_failures, **counts)

    @admin.display(description=gettext_lazy("status"))
    def status_shown(self, row: Counted) -> str:
        """Show whether it runs, and if not, why."""
        stop = _stop(row, holding_backfill([row], using=str(row._state.db)))
        if stop is None:
            return _mark(State.DONE, _("running"), "")
        text = with_code(stop.text)
        if stop.kind == PAUSE:  # with a link to the user
            reason = stop.reason or NOTHING
            facts = (timestamp(row.paused_at), actor(row.paused_by, viewer_of(row)), reason)
            text = format_html(_("since {} by {}: {}"), *facts)
        return _mark(_COLOURS.get(stop.kind, State.PARKED), stop.label, text)

    @admin.display(description=gettext_lazy("owed"))
    def owed(self, row: Counted) -> str:
        """Show the number of owed deliveries by state, the most urgent first, with links."""
        counts = {
            State.DEAD: row.dead,
            State.PARKED: row.parked,
            State.BLOCKED: row.blocked,
            State.PENDING: row.pending,
            State.SENT: row.sent,
        }
        shown = [(_counted(row, state, count),) for state, count in counts.items() if count]
        return format_html_join(" ", "{}", shown) or _("none")

    @admin.display(description=gettext_lazy("policy"))
    def policy(self, row: Subscription) -> str:
        """Show its attempts, backoff, lease and window."""
        facts = {
            "retries": retry_policy(row.attempts, row.backoff_base, row.backoff_cap),
            "lease": span_of_seconds(row.lease_seconds),
            "window": row.window,
        }
        text = _("%(retries)s, lease %(lease)s, window %(window)d")
        return format_html('<div class="outbox-wide">{}</div>', text % facts)

    @admin.display(description=gettext_lazy("since"))
    def since_shown(self, row: Subscription) -> str:
        """Show when it was subscribed."""
        return timestamp(row.since)

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may pause and resume."""
        return may(request, "pause")

    @admin.action(description=gettext_lazy("Pause the handler"), permissions=["pause"])
    def pause(self, request: HttpRequest, rows: QuerySet[Subscription]) -> HttpResponse | None:
        """Ask for a reason, then pause the handlers of these subscriptions."""
        form = ReasonForm(request.POST if "reason" in request.POST else None)
        if not form.is_valid():
            lines = _handlers(rows)
            return self.confirm(request, form, title=_("Pause"), text=str(_PAUSE), lines=lines)
        reason = form.cleaned_data["reason"]
        for handler in _handlers(rows):
            try:
                changed = operations.pause(handler, by=acting_user(request), reason=reason)
            except operations.HandlerEnded as error:
                self.message_user(request, str(error), messages.ERROR)
                continue
            if changed:
                self.log_action(request, _rows_of(handler), _("Paused: %s") % reason)
                text = _("%s is paused. Its deliveries wait in the database.") % handler
                self.message_user(request, text, messages.SUCCESS)
            else:
                self.message_user(request, _("%s is already paused.") % handler, messages.WARNING)
        return None

    @admin.action(description=gettext_lazy("Resume the handler"), permissions=["pause"])
    def resume(self, request: HttpRequest, rows: QuerySet[Subscription]) -> None:
        """Resume the handlers of these subscriptions, except those that a backfill holds."""
        for handler in _handlers(rows):
            try:
                changed = operations.resume(handler, by=acting_user(request))
            except operations.HeldByBackfill as error:
                self.message_user(request, str(error), messages.ERROR)
                continue
            if changed:
                self.log_action(request, _rows_of(handler), _("Resumed."))
                self.message_user(request, _("%s is resumed.") % handler, messages.SUCCESS)
            else:
                self.message_user(request, _("%s is not paused.") % handler, messages.WARNING)

    @admin.action(description=gettext_lazy("Close the breaker"), permissions=["pause"])
    def close_breaker(
        self, request: HttpRequest, rows: QuerySet[Subscription]
    ) -> HttpResponse | None:
        """Ask for a reason, then close the breakers of these handlers without a probe."""
        form = ReasonForm(request.POST if "reason" in request.POST else None)
        if not form.is_valid():
            title, lines = _("Close the breaker"), _handlers(rows)
            return self.confirm(request, form, title=title, text=str(_CLOSE), lines=lines)
        reason = form.cleaned_data["reason"]
        for handler in _handlers(rows):
            if operations.close_breaker(handler, by=acting_user(request), reason=reason):
                self.log_action(request, _rows_of(handler), _("Breaker closed: %s") % reason)
                text = _("The breaker of %s is closed. Its window starts small.") % handler
                self.message_user(request, text, messages.SUCCESS)
            else:
                text = _("%s has no open breaker.") % handler
                self.message_user(request, text, messages.WARNING)
        return None

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add whether the user may pause it, and the backfill that holds it."""
        row = kwargs["obj"]
        context["may_pause"] = self.has_pause_permission(request)
        backfill = context["backfill"] = holding_backfill([row], using=str(row._state.db))
        if backfill is not None:
            context["held_text"] = stop.text if (stop := _stop(row, backfill)) else ""
            context["is_paused_by_backfill"] = row.paused_by == holder(backfill)
        return super().render_change_form(request, context, *args, **kwargs)


def _stop(row: Counted, backfill: Operation | None) -> Stop | None:
    return stop_of(row, backfill, has_failures=row.has_failures)


def _handlers(rows: QuerySet[Subscription]) -> list[str]:
    return sorted({row.handler for row in rows})


def _rows_of(handler: str) -> Iterable[Subscription]:
    return Subscription.objects.filter(handler=handler)


def _mark(state: str, word: str, text: str) -> str:
    return format_html('<span class="outbox-badge outbox-{}">{}</span> {}', state, word, text)


def _counted(row: Counted, state: State, count: int) -> str:
    number = _("over %d") % _COUNTED if count > _COUNTED else str(count)
    badge = _mark(state, f"{number} {state.label}", "")
    url = deliveries_url(handler=row.handler, state=state) if row.has_failures else ""
    return link(url, badge)
