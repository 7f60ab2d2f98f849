"""Delayed events: what is to be told later."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy

from outbox.models import DelayedEvent
from outbox.templatetags.outbox_display import actor, moment

from .base import ReadOnlyAdmin
from .links import short_key


@admin.register(DelayedEvent)
class DelayedEventAdmin(ReadOnlyAdmin):
    """What is to be told when. It is no fact yet: the code that told it may take it back."""

    list_display = ["name", "due", "key_short", "stored"]
    list_per_page = 50
    ordering = ["due_at"]
    actions = None
    empty_text = gettext_lazy(
        "Nothing is to be told later. emit(..., delay=...) puts an event here until it is due."
    )
    fieldsets = [
        (None, {"fields": ["name", "key_short", "due", "stored", "actor_shown", "emitted_by"]}),
        (gettext_lazy("Record"), {"fields": ["id", "version", "correlation_id", "causation_id"]}),
    ]

    @admin.display(description=gettext_lazy("due at"), ordering="due_at")
    def due(self, row: DelayedEvent) -> str:
        """Say when it is told."""
        return moment(row.due_at)

    @admin.display(description=gettext_lazy("stored at"))
    def stored(self, row: DelayedEvent) -> str:
        """Say since when it waits."""
        return moment(row.stored_at)

    @admin.display(description=gettext_lazy("key"))
    def key_short(self, row: DelayedEvent) -> str:
        """Link the key to its timeline."""
        return short_key(row.key)

    @admin.display(description=gettext_lazy("actor"))
    def actor_shown(self, row: DelayedEvent) -> str:
        """Show who started it all."""
        return actor(row.actor)
