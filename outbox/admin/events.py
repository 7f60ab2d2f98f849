"""Events and delayed events: the lists and the detail pages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import conditional_page, require_POST

from outbox import events, tenants, tracing
from outbox.conf import conf
from outbox.contracts.upcasting import NotUpcast, current_payload
from outbox.models import DelayedEvent, Delivery, Event
from outbox.monitor.diagnosis import why_delayed, why_event
from outbox.privacy.sensitive import masked, masked_text
from outbox.templatetags.outbox_display import NOTHING, actor, badge, link, timestamp

from . import filters
from .base import ReadOnlyAdmin, as_uuid, may, with_tenant
from .deliveries import explained, unexplained
from .event_list import EventChangeList
from .json_object import payload_text
from .links import (
    event_url,
    events_url,
    key_link,
    short_key,
    tenant_link,
    timeline_url,
    viewer_of,
)
from .pages import show
from .sinks import sensitive_sink_view, sinks_view
from .sources import sources_view
from .timeline import timeline_condition, timeline_part, timeline_view

if TYPE_CHECKING:
    from .event_list import CountedEvent

State = Delivery.State

#: Maximum of failed attempts per delivery on the page of an event, the newest.
_FAILURES_SHOWN = 5


def _upcast(event: Event) -> str:
    """Return the upcast payload that handlers read; "" if it is the stored one."""
    known = events.find(event.name)
    if known is None or event.version >= known.event_version:
        return ""
    try:
        payload = current_payload(event)
        return payload_text(
            masked(Event(name=event.name, version=known.event_version, payload=payload))
        )
    except NotUpcast as error:
        return masked_text(str(error), event)


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """All events. Search is exact: a key, an event id or a correlation id."""

    list_display = ["name", "worst", "progress", "key_short", "emitted"]
    list_filter = [
        filters.EventStateFilter,
        filters.TimeFilter,
        filters.TenantFilter,
        filters.AppFilter,
        filters.NameFilter,
    ]
    list_per_page = 50
    ordering = ["-seq"]
    search_fields = ["key", "id", "correlation_id"]
    search_help_text = gettext_lazy(
        "The exact key (for example an order's id), event id or correlation id."
    )
    actions = None
    shows_getting_started = True
    empty_text = gettext_lazy(
        "No event is stored yet. An event appears here when a transaction that calls emit() "
        "commits."
    )
    no_match_text = gettext_lazy(
        "No event matches. Remove a filter, or search by an exact key, event or correlation id."
    )
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "name",
                    "version",
                    "key_shown",
                    "emitted",
                    "actor_shown",
                    "cause",
                    "correlation",
                    "corrected",
                ]
            },
        ),
        (
            gettext_lazy("Record"),
            {"fields": ["id", "seq", "fanned_out", "trace"], "classes": ["collapse"]},
        ),
    ]

    def get_list_display(self, request: HttpRequest) -> Any:
        """Add the tenant if events have tenants."""
        shown = [*super().get_list_display(request)]
        return [*shown, "tenant_shown"] if tenants.is_on() else shown

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Add the tenant of an event that has one."""
        return with_tenant(super().get_fieldsets(request, obj), obj and obj.tenant)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list that pages by key and counts deliveries."""
        return EventChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Match exactly, so that each search uses an index."""
        term = search_term.strip()
        if not term:
            return queryset, False
        condition, uuid = Q(key=term), as_uuid(term)
        if uuid:
            condition |= Q(key=str(uuid)) | Q(id=uuid) | Q(correlation_id=uuid)
        return queryset.filter(condition), False

    @admin.display(description=gettext_lazy("key"))
    def key_shown(self, event: Event) -> str:
        """Link the key to its timeline."""
        return key_link(event, event.key)

    @admin.display(description=gettext_lazy("key"))
    def key_short(self, event: Event) -> str:
        """Link the shortened key to its timeline."""
        return short_key(event, event.key)

    @admin.display(description=gettext_lazy("emitted at"))
    def emitted(self, event: Event) -> str:
        """Show the time to the second, to compare it with logs."""
        return timestamp(event.emitted_at)

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, event: CountedEvent) -> str:
        """Show how many of its handlers are done."""
        if event.fanned_out_at is None:
            return _("waits for the relay")
        total = event.delivery_counts.total
        if not total:
            return _("no subscriber")
        return _("%(done)d of %(total)d done") % {
            "done": event.delivery_counts.counts[State.DONE],
            "total": total,
        }

    @admin.display(description=gettext_lazy("worst state"))
    def worst(self, event: CountedEvent) -> str:
        """Show the most severe state of its deliveries."""
        waiting = State.PENDING if event.fanned_out_at is None else ""
        state = event.delivery_counts.worst or waiting
        return badge(state) if state else NOTHING

    @admin.display(description=gettext_lazy("actor"))
    def actor_shown(self, event: Event) -> str:
        """Show the actor of the first cause."""
        return actor(event.actor, viewer_of(event))

    @admin.display(description=gettext_lazy("caused by"))
    def cause(self, event: Event) -> str:
        """Link the event whose handler emitted this one."""
        if event.causation_id is None:
            return _("no event (emitted by a request, a job or a command)")
        parent = Event.objects.filter(id=event.causation_id).only("seq", "name").first()
        if parent is None:
            shown = _("%(id)s (no longer stored)") % {"id": event.causation_id}
        else:
            shown = link(event_url(parent.seq), parent.name)
        return format_html(_("{}, handled by {}"), shown, event.emitted_by or NOTHING)

    @admin.display(description=gettext_lazy("correlation id"))
    def correlation(self, event: Event) -> str:
        """Link all events of the same correlation id, and their timeline."""
        listed = events_url(q=str(event.correlation_id))
        timeline = timeline_url(event.correlation_id)
        return format_html(
            "{} ({})", link(listed, event.correlation_id), link(timeline, _("timeline"))
        )

    @admin.display(description=gettext_lazy("corrects"))
    def corrected(self, event: Event) -> str:
        """Link the event whose payload this one corrects."""
        if event.corrects is None:
            return NOTHING
        seq = Event.objects.filter(id=event.corrects).values_list("seq", flat=True).first()
        return link(event_url(seq) if seq else "", event.corrects)

    @admin.display(description=gettext_lazy("tenant"))
    def tenant_shown(self, event: Event) -> str:
        """Link the events of the tenant."""
        return tenant_link(event, event.tenant)

    @admin.display(description=gettext_lazy("trace"))
    def trace(self, event: Event) -> str:
        """Show the trace id, as a link if `TRACE_URL` is set."""
        trace_id, template = tracing.trace_id_of(event.traceparent), conf().TRACE_URL
        if not trace_id:
            return NOTHING
        return link(template.replace("{trace_id}", trace_id), trace_id) if template else trace_id

    @admin.display(description=gettext_lazy("fanned out at"))
    def fanned_out(self, event: Event) -> str:
        """Show when it was fanned out."""
        return timestamp(event.fanned_out_at)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the deliveries, the progress, and the masked and upcast payloads."""
        event = kwargs["obj"]
        context["may_see_failures"] = may(request, "see failures")
        explain = explained if context["may_see_failures"] else unexplained
        context["deliveries"] = explain(event.deliveries.order_by("id"), failures=_FAILURES_SHOWN)
        context["progress"] = why_event(event)
        shown = masked(event)
        context["payload"] = payload_text(shown)
        context["may_unmask"] = shown != event.payload and may(request, "see sensitive fields")
        context["upcast"] = _upcast(event)
        return super().render_change_form(request, context, *args, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        """Add these pages before Django's pattern, which matches any path as an event."""
        view, name = self.admin_site.admin_view, "outbox_event"
        unmasked = require_POST(never_cache(partial(sensitive_sink_view, self)))
        part = conditional_page(partial(timeline_part, self))
        condition = conditional_page(partial(timeline_condition, self))
        return [
            path("timeline/", view(partial(timeline_view, self)), name=f"{name}_timeline"),
            path("timeline/part/", view(part), name=f"{name}_timeline_part"),
            path("timeline/condition/", view(condition), name=f"{name}_timeline_condition"),
            path("sinks/", view(partial(sinks_view, self)), name=f"{name}_sinks"),
            path("sources/", view(partial(sources_view, self)), name=f"{name}_sources"),
            path("sinks/sensitive/", view(unmasked), name=f"{name}_sinks_sensitive"),
            path("<int:pk>/sensitive/", view(self.sensitive_view), name=f"{name}_sensitive"),
            *super().get_urls(),
        ]

    @method_decorator([require_POST, never_cache])
    def sensitive_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show a payload unmasked, after logging the user."""
        self.require_view(request)
        if not may(request, "see sensitive fields"):
            raise PermissionDenied
        event = get_object_or_404(Event, pk=pk)
        self.log_action(request, [event], _("Viewed the sensitive fields."))
        template, payload = "admin/outbox/event/sensitive.html", payload_text(event.payload)
        return show(request, template, of=self, title=event.name, event=event, payload=payload)


@admin.register(DelayedEvent)
class DelayedEventAdmin(ReadOnlyAdmin):
    """Events to be emitted at their due time. Until then the emitting code may cancel them."""

    list_display = ["name", "due", "key_short", "stored"]
    list_per_page = 50
    ordering = ["due_at"]
    actions = None
    empty_text = gettext_lazy(
        "No event is delayed. emit(..., delay=...) stores an event here until it is due."
    )
    fieldsets = [
        (None, {"fields": ["name", "key_short", "due", "stored", "actor_shown", "emitted_by"]}),
        (gettext_lazy("Record"), {"fields": ["id", "version", "correlation_id", "causation_id"]}),
    ]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Add the tenant of an event that has one."""
        return with_tenant(super().get_fieldsets(request, obj), obj and obj.tenant, field="tenant")

    @admin.display(description=gettext_lazy("due at"), ordering="due_at")
    def due(self, row: DelayedEvent) -> str:
        """Show its due time."""
        return timestamp(row.due_at)

    @admin.display(description=gettext_lazy("stored at"))
    def stored(self, row: DelayedEvent) -> str:
        """Show when it was stored."""
        return timestamp(row.stored_at)

    @admin.display(description=gettext_lazy("key"))
    def key_short(self, row: DelayedEvent) -> str:
        """Link the key to its timeline."""
        return short_key(row, row.key)

    @admin.display(description=gettext_lazy("actor"))
    def actor_shown(self, row: DelayedEvent) -> str:
        """Show the actor of the first cause."""
        return actor(row.actor, viewer_of(row))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the sentence on why it waits, and its masked payload."""
        delayed = kwargs["obj"]
        context["explanation"] = why_delayed(delayed)
        context["payload"] = payload_text(masked(delayed))
        return super().render_change_form(request, context, *args, **kwargs)
