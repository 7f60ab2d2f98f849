"""Alerts: the list of open and past problems, with what was sent to each channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.db.models import BooleanField, QuerySet, Value
from django.http import HttpRequest
from django.urls import get_script_prefix
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from outbox.alerts.configuration import (
    BREAKER,
    DEAD,
    FAILING,
    LAG,
    PAUSED,
    SETTLEMENT,
    SILENT,
    SOURCE,
)
from outbox.alerts.listing import outcomes
from outbox.models import Alert
from outbox.monitor.stops import hidden_text
from outbox.templatetags.outbox_display import NOTHING, link, timestamp

from .base import ReadOnlyAdmin, may
from .filters import Choices
from .links import viewer_of
from .pages import may_open

#: What the pages call the triggers. The keys are those of the settings.
TRIGGER_LABELS: Mapping[str, Any] = {
    FAILING: gettext_lazy("failing"),
    DEAD: gettext_lazy("dead"),
    LAG: gettext_lazy("lag"),
    SILENT: gettext_lazy("silent"),
    BREAKER: gettext_lazy("breaker"),
    PAUSED: gettext_lazy("paused"),
    SOURCE: gettext_lazy("source"),
    SETTLEMENT: gettext_lazy("settlement"),
}


class TriggerFilter(SimpleListFilter):
    """Alerts of one trigger."""

    title = gettext_lazy("trigger")
    parameter_name = "trigger"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer each trigger."""
        return list(TRIGGER_LABELS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        """Keep those of the chosen one."""
        return queryset.filter(trigger=self.value()) if self.value() else queryset


class StateFilter(SimpleListFilter):
    """Open or resolved alerts."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer both states."""
        return [("open", pgettext("an alert", "open")), ("resolved", _("resolved"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        """Keep the chosen ones."""
        if self.value() not in ("open", "resolved"):
            return queryset
        return queryset.filter(resolved_at__isnull=self.value() == "open")


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """All alerts of thirty days. Their texts quote failures."""

    list_display = ["trigger_shown", "text_shown", "opened", "resolved", "sent"]
    list_filter = [StateFilter, TriggerFilter]
    list_per_page = 50
    ordering = ["-id"]
    actions = None
    empty_text = gettext_lazy(
        "No alert yet. `manage.py outbox alerts test` sends a test message to each channel."
    )
    fieldsets = [
        (None, {"fields": ["trigger_shown", "text_shown", "page", "sent"]}),
        (gettext_lazy("Times"), {"fields": ["opened", "resolved"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Read the notices with the alerts, and note whether the user may see failures."""
        has_failures = Value(may(request, "see failures"), output_field=BooleanField())
        rows = super().get_queryset(request).prefetch_related("notices")
        found: QuerySet[Any] = rows.annotate(has_failures=has_failures)
        return found

    @admin.display(description=gettext_lazy("trigger"), ordering="trigger")
    def trigger_shown(self, row: Alert) -> str:
        """Show the label of the trigger; a later release may have stored another one."""
        return str(TRIGGER_LABELS.get(row.trigger, row.trigger))

    @admin.display(description=gettext_lazy("problem"))
    def text_shown(self, row: Any) -> str:
        """Show the text of the latest check, if the user may see failures."""
        return row.text if row.has_failures else hidden_text()

    @admin.display(description=gettext_lazy("page"))
    def page(self, row: Alert) -> str:
        """Link the page about the problem."""
        if not row.path:
            return NOTHING
        url = f"{get_script_prefix().rstrip('/')}{row.path}"
        return link(url if may_open(viewer_of(row), url) else "", url)

    @admin.display(description=gettext_lazy("opened at"))
    def opened(self, row: Alert) -> str:
        """Show when the problem was found."""
        return timestamp(row.opened_at)

    @admin.display(description=gettext_lazy("resolved at"))
    def resolved(self, row: Alert) -> str:
        """Show when it was resolved."""
        return timestamp(row.resolved_at)

    @admin.display(description=gettext_lazy("messages"))
    def sent(self, row: Alert) -> str:
        """Show what was sent to each channel."""
        return (
            format_html_join(mark_safe("<br>"), "{}", [[one] for one in outcomes(row)]) or NOTHING
        )
