"""Deliveries: the list, the detail page, actions on them, and the page of blocked keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Prefetch, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.models import Attempt, Delivery, Event
from outbox.monitor.blocked import blocked_keys
from outbox.monitor.diagnosis import why
from outbox.sources.unreadable import STORED_MESSAGES
from outbox.templatetags.outbox_display import (
    NOTHING,
    attempts_text,
    badge,
    run_time,
    timestamp,
)

from . import filters
from .actions import possible_actions, run_action
from .base import ReadOnlyAdmin, as_uuid, may, with_tenant
from .corrections import correct_view
from .dead_letters import bulk_action_view, dead_letters_view
from .keyset import KeysetChangeList
from .links import event_link, key_link, short_key, tenant_link
from .pages import show

#: Maximum of failed attempts on the page of a delivery, the newest.
_FAILURES_SHOWN = 50
_EVENTS_SEARCHED = 1000


@dataclass(frozen=True)
class ExplainedDelivery:
    """A delivery with its explanation and its latest failed attempts, the newest first."""

    row: Delivery
    why: str
    failures: Sequence[Attempt]


def explained(rows: QuerySet[Delivery], *, failures: int) -> list[ExplainedDelivery]:
    """Return each delivery with its explanation and at most `failures` failed attempts."""
    rank = Window(RowNumber(), partition_by="delivery", order_by="-id")
    newest = Attempt.objects.annotate(rank=rank).filter(rank__lte=failures).order_by("-id")
    found = rows.select_related("subscription", "event")
    found = found.prefetch_related(
        Prefetch("failures", Attempt.objects.defer("traceback")),  # all: `why` counts them
        Prefetch("failures", newest, to_attr="newest_failures"),
    )
    return [ExplainedDelivery(row, why(row), row.newest_failures) for row in found]


def unexplained(rows: QuerySet[Delivery], *, failures: int) -> list[ExplainedDelivery]:
    """Return each delivery as `explained` does, without texts that may quote an exception."""
    return [ExplainedDelivery(row, "", ()) for row in rows.select_related("subscription")]


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """All deliveries. Search is exact: a number, a key or an event id."""

    list_display = ["number", "handler", "state_shown", "about", "note_shown", "due"]
    list_filter = [
        filters.DeliveryStateFilter,
        filters.DueFilter,
        filters.TenantFilter,
        filters.HandlerFilter,
    ]
    list_per_page = 50
    ordering = ["-id"]
    search_fields = ["id", "event__key", "event__id"]
    search_help_text = gettext_lazy(
        "A delivery's number, or the exact key (for example an order's id) or event id."
    )
    actions = ["retry", "discard", "replay"]
    shows_getting_started = True
    empty_text = gettext_lazy(
        "No delivery yet. The relay creates one for each event and handler. If events wait, start "
        "a relay: a worker of the queue outbox, or manage.py outbox work."
    )
    no_match_text = gettext_lazy(
        "No delivery matches. Remove a filter, or search by a number, an exact key or an event id."
    )
    fieldsets = [
        (None, {"fields": ["handler", "event_shown", "key_shown", "attempts_shown"]}),
        (gettext_lazy("Times"), {"fields": ["due", "started", "settled", "run_time", "worker"]}),
        (
            gettext_lazy("Record"),
            {"fields": ["number", "token", "started_token", "note"], "classes": ["collapse"]},
        ),
    ]

    def get_urls(self) -> list[URLPattern]:
        """Add the pages of dead letters, corrections and blocked keys."""
        view = self.admin_site.admin_view
        return [
            path("dead/", view(partial(dead_letters_view, self)), name="outbox_delivery_dead"),
            path(
                "dead/act/", view(partial(bulk_action_view, self)), name="outbox_delivery_dead_act"
            ),
            path(
                "<int:pk>/correct/",
                view(partial(correct_view, self)),
                name="outbox_delivery_correct",
            ),
            path("blocked/", view(self.blocked_view), name="outbox_delivery_blocked"),
            *super().get_urls(),
        ]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list that pages by key."""
        return KeysetChangeList

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Add the tenant of an event that has one."""
        return with_tenant(super().get_fieldsets(request, obj), obj and obj.event.tenant)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Defer the payloads."""
        rows = super().get_queryset(request).select_related("event", "subscription")
        return rows.defer("event__payload")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Match exactly, so that each search uses an index."""
        term = search_term.strip()
        if not term:
            return queryset, False
        condition = Q(event__in=_seqs(term))
        if term.isascii() and term.isdigit() and len(term) < 19:
            condition |= Q(id=int(term))
        return queryset.filter(condition), False

    @admin.display(description=gettext_lazy("handler"))
    def handler(self, delivery: Delivery) -> str:
        """Name the handler."""
        return delivery.receiver

    @admin.display(description=gettext_lazy("event"))
    def event_shown(self, delivery: Delivery) -> str:
        """Link the event."""
        return event_link(delivery, delivery.event_id, delivery.event.name)

    @admin.display(description=gettext_lazy("key"))
    def key_shown(self, delivery: Delivery) -> str:
        """Link the key to its timeline."""
        return key_link(delivery, delivery.event.key)

    @admin.display(description=gettext_lazy("event"))
    def about(self, delivery: Delivery) -> str:
        """Link the event and the timeline of its key, shortened."""
        key = short_key(delivery, delivery.event.key)
        return format_html("{}<br>{}", self.event_shown(delivery), key)

    @admin.display(description=gettext_lazy("tenant"))
    def tenant_shown(self, delivery: Delivery) -> str:
        """Link the events of the tenant."""
        return tenant_link(delivery, delivery.event.tenant)

    @admin.display(description=gettext_lazy("number"), ordering="id")
    def number(self, delivery: Delivery) -> str:
        """Show the id as `manage.py outbox` takes it, without thousands separators."""
        return str(delivery.pk)

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, delivery: Delivery) -> str:
        """Show the state and the number of attempts."""
        html = '{}<br><span class="outbox-nowrap">{}</span>'
        return format_html(html, badge(delivery.state), attempts_text(delivery.attempts))

    @admin.display(description=gettext_lazy("note"))
    def note_shown(self, delivery: Delivery) -> str:
        """Show its latest note in a wide column."""
        if not delivery.note:
            return NOTHING
        return format_html('<div class="outbox-wide">{}</div>', delivery.note)

    @admin.display(description=gettext_lazy("attempts"))
    def attempts_shown(self, delivery: Delivery) -> str:
        """Show the number of attempts and their limit."""
        limit = delivery.subscription.attempts
        if limit is None:
            return _("%(attempts)d (no limit)") % {"attempts": delivery.attempts}
        return _("%(attempts)d of %(limit)d") % {"attempts": delivery.attempts, "limit": limit}

    @admin.display(description=gettext_lazy("due at"))
    def due(self, delivery: Delivery) -> str:
        """Show the due time of a pending or sent delivery."""
        waits = delivery.state in (Delivery.State.PENDING, Delivery.State.SENT)
        return timestamp(delivery.due_at) if waits else NOTHING

    @admin.display(description=gettext_lazy("started at"))
    def started(self, delivery: Delivery) -> str:
        """Show when a worker last started the handler."""
        return timestamp(delivery.started_at)

    @admin.display(description=gettext_lazy("settled at"))
    def settled(self, delivery: Delivery) -> str:
        """Show when it was done or discarded."""
        return timestamp(delivery.settled_at)

    @admin.display(description=gettext_lazy("duration"))
    def run_time(self, delivery: Delivery) -> str:
        """Show how long the handler ran."""
        return run_time(delivery) or NOTHING

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may retry."""
        return may(request, "retry")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may discard."""
        return may(request, "discard")

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may replay."""
        return may(request, "replay")

    @admin.action(description=gettext_lazy("Retry now"), permissions=["retry"])
    def retry(self, request: HttpRequest, chosen: QuerySet[Delivery]) -> HttpResponse | None:
        """Make deliveries due now that are dead, in backoff, or left parked without a reason."""
        return run_action(self, request, chosen, action="retry")

    @admin.action(description=gettext_lazy("Discard"), permissions=["discard"])
    def discard(self, request: HttpRequest, chosen: QuerySet[Delivery]) -> HttpResponse | None:
        """Settle deliveries without running their handlers."""
        return run_action(self, request, chosen, action="discard")

    @admin.action(description=gettext_lazy("Replay"), permissions=["replay"])
    def replay(self, request: HttpRequest, chosen: QuerySet[Delivery]) -> HttpResponse | None:
        """Run the handlers of settled deliveries again."""
        return run_action(self, request, chosen, action="replay")

    def blocked_view(self, request: HttpRequest) -> HttpResponse:
        """Show the keys with the most blocked deliveries, and what blocks each."""
        self.require_view(request)
        template, title = "admin/outbox/delivery/blocked.html", _("Blocked keys")
        may_see = may(request, "see events")
        lines = blocked_keys()
        return show(request, template, of=self, title=title, lines=lines, may_see_events=may_see)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the explanation, the attempts and the user's actions."""
        row = kwargs["obj"]
        rows = Delivery.objects.filter(pk=row.pk)
        names = {"event": row.event.name, "handler": row.receiver}
        context["subtitle"] = _("%(event)s to %(handler)s") % names
        context["delivery"] = explained(rows, failures=_FAILURES_SHOWN)[0]
        context["possible"] = possible_actions(request, row)
        context["may_correct"] = row.state == Delivery.State.DEAD and may(request, "correct")
        context["is_message"] = row.event.name in STORED_MESSAGES
        context["may_unmask"] = may(request, "see sensitive fields")
        return super().render_change_form(request, context, *args, **kwargs)


def _seqs(term: str) -> list[int]:
    """Return the `seq` of matching events first: with a join the database uses no index."""
    condition, uuid = Q(key=term), as_uuid(term)
    if uuid:
        condition |= Q(key=str(uuid)) | Q(id=uuid)
    found = Event.objects.filter(condition).order_by("-seq")
    return list(found.values_list("seq", flat=True)[:_EVENTS_SEARCHED])
