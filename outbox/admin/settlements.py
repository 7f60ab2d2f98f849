"""Settlements: the list of what other systems have settled, and of what they owe."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox import clock
from outbox.models import Settlement, Subscription
from outbox.monitor.consumers import is_late
from outbox.settlements.status import in_words
from outbox.templatetags.outbox_display import NOTHING, timestamp

from .base import ReadOnlyAdmin, as_uuid
from .filters import Choices
from .keyset import KeysetChangeList
from .links import delivery_link, event_link, short_key

State = Settlement.State


class StateFilter(SimpleListFilter):
    """Settlements that are waited for, late, missing or settled."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer the states of the status: open ones in two parts."""
        return [
            ("waiting", _("waiting")),
            ("late", _("late")),
            (State.MISSING.value, State.MISSING.label),
            (State.SETTLED.value, State.SETTLED.label),
        ]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Settlement]
    ) -> QuerySet[Settlement]:
        """Keep the chosen ones, open and missing ones by their small indexes."""
        value, now = self.value(), clock.now()
        if value == State.SETTLED:  # nearly all are settled, so a page fills soon
            return queryset.filter(state=value)
        conditions = {
            "waiting": Q(state=State.OPEN) & ~is_late(now),
            "late": Q(state=State.OPEN) & is_late(now),
            State.MISSING.value: Q(state=State.MISSING),
        }
        if value not in conditions:
            return queryset
        return queryset.filter(pk__in=Settlement.objects.filter(conditions[value]).values("pk"))


class ConsumerFilter(SimpleListFilter):
    """Settlements by one consumer."""

    title = gettext_lazy("consumer")
    parameter_name = "consumer"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer each consumer of a sink."""
        names = {name for row in _expecting() for name in row.consumer_names}
        return [(name, name) for name in sorted(names)]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Settlement]
    ) -> QuerySet[Settlement]:
        """Keep the chosen one's."""
        return queryset.filter(consumer=self.value()) if self.value() else queryset


class SinkFilter(SimpleListFilter):
    """Settlements of the events of one sink."""

    title = gettext_lazy("sink")
    parameter_name = "sink"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer the handler of each sink with consumers."""
        names = sorted({row.handler for row in _expecting()})
        return [(name, name) for name in names]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Settlement]
    ) -> QuerySet[Settlement]:
        """Keep the chosen one's that its present consumers owe or have settled.

        Without the consumers' names, the settlements of all sinks would be read for a rare one.
        """
        if not self.value():
            return queryset
        rows = list(Subscription.objects.filter(handler=self.value()))
        names = {name for row in rows for name in row.consumer_names}
        return queryset.filter(
            consumer__in=names, delivery__subscription__in=[row.pk for row in rows]
        )


def _expecting() -> QuerySet[Subscription]:
    return Subscription.objects.exclude(consumers="")


@admin.register(Settlement)
class SettlementAdmin(ReadOnlyAdmin):
    """All settlements. Search is exact: an event id or the number of a delivery."""

    list_display = ["by", "state_shown", "about", "delivery_shown", "due", "settled"]
    list_display_links = None
    list_filter = [StateFilter, SinkFilter, ConsumerFilter]
    list_per_page = 50
    ordering = ["-id"]
    search_fields = ["event"]
    search_help_text = gettext_lazy("An exact event id, or a delivery's number.")
    actions = None
    empty_text = gettext_lazy(
        "No settlement yet. A sink with CONSUMERS expects one for each event that it publishes."
    )
    no_match_text = gettext_lazy(
        "No settlement matches. Remove a filter, or search by an event id or a delivery's number."
    )
    fieldsets = [
        (None, {"fields": ["consumer", "sink", "state_shown", "about", "delivery_shown"]}),
        (gettext_lazy("Times"), {"fields": ["due", "settled", "seconds"]}),
        (gettext_lazy("Replays"), {"fields": ["replays", "most_replays"]}),
    ]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list that pages by key."""
        return KeysetChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Defer the payloads."""
        rows = super().get_queryset(request)
        rows = rows.select_related("delivery__event", "delivery__subscription")
        return rows.defer("delivery__event__payload")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Match exactly, so that each search uses an index."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if term.isascii() and term.isdigit() and len(term) < 19:
            return queryset.filter(delivery=int(term)), False
        uuid = as_uuid(term)
        return (queryset.filter(event=uuid) if uuid else queryset.none()), False

    @admin.display(description=gettext_lazy("consumer"))
    def by(self, row: Settlement) -> str:
        """Name the consumer and the sink's handler."""
        html = '{}<br><span class="outbox-quiet">{}</span>'
        return format_html(html, row.consumer, self.sink(row))

    @admin.display(description=gettext_lazy("sink"))
    def sink(self, row: Settlement) -> str:
        """Name the sink's handler."""
        return row.delivery.subscription.handler

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, row: Settlement) -> str:
        """Show the state in the words of the timeline."""
        return in_words(row, clock.now())

    @admin.display(description=gettext_lazy("event"))
    def about(self, row: Settlement) -> str:
        """Link the event and the timeline of its key, shortened."""
        event = row.delivery.event
        shown = event_link(row, event.pk, event.name)
        return format_html("{}<br>{}", shown, short_key(row, event.key))

    @admin.display(description=gettext_lazy("delivery"))
    def delivery_shown(self, row: Settlement) -> str:
        """Link the sink's delivery."""
        return delivery_link(row, row.delivery_id)

    @admin.display(description=gettext_lazy("due at"))
    def due(self, row: Settlement) -> str:
        """Show the deadline of an open settlement."""
        return timestamp(row.due_at) if row.state == State.OPEN else NOTHING

    @admin.display(description=gettext_lazy("settled at"))
    def settled(self, row: Settlement) -> str:
        """Show when the report arrived."""
        return timestamp(row.settled_at)
