"""Delayed events: list and detail page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy

from outbox.models import DelayedEvent
from outbox.monitor.diagnosis import why_delayed
from outbox.privacy.sensitive import masked
from outbox.templatetags.outbox_display import actor, moment

from .base import ReadOnlyAdmin
from .json_object import payload_text
from .links import short_key


@admin.register(DelayedEvent)
class DelayedEventAdmin(ReadOnlyAdmin):
    """Events to be emitted at their due time. Until then the emitting code may cancel them."""

    list_display = ["name", "due", "key_short", "stored"]
    list_per_page = 50
    ordering = ["due_at"]
    actions = None
    empty_text = gettext_lazy(
        "No event is delayed. emit(..., delay=...) puts an event here until it is due."
    )
    fieldsets = [
        (None, {"fields": ["name", "key_short", "due", "stored", "actor_shown", "emitted_by"]}),
        (gettext_lazy("Record"), {"fields": ["id", "version", "correlation_id", "causation_id"]}),
    ]

    @admin.display(description=gettext_lazy("due at"), ordering="due_at")
    def due(self, row: DelayedEvent) -> str:
        """Show its due time."""
        return moment(row.due_at)

    @admin.display(description=gettext_lazy("stored at"))
    def stored(self, row: DelayedEvent) -> str:
        """Show when it was stored."""
        return moment(row.stored_at)

    @admin.display(description=gettext_lazy("key"))
    def key_short(self, row: DelayedEvent) -> str:
        """Link the key to its timeline."""
        return short_key(row.key)

    @admin.display(description=gettext_lazy("actor"))
    def actor_shown(self, row: DelayedEvent) -> str:
        """Show the actor of the first cause."""
        return actor(row.actor)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the sentence on why it waits, and its masked payload."""
        delayed = kwargs["obj"]
        context["what_it_waits_for"] = why_delayed(delayed)
        context["payload"] = payload_text(masked(delayed))
        return super().render_change_form(request, context, *args, **kwargs)
