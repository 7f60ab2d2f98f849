"""Alerts: the list of open and past problems, with what was sent to each channel."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.db.models import BooleanField, QuerySet, Value
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from outbox.alerts.listing import outcomes
from outbox.models import Alert
from outbox.monitor.stops import hidden_text
from outbox.templatetags.outbox_display import NOTHING, link, timestamp

from .base import ReadOnlyAdmin, may
from .filters import Choices


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

    list_display = ["trigger", "text_shown", "opened", "resolved", "sent"]
    list_filter = [StateFilter, "trigger"]
    list_per_page = 50
    ordering = ["-id"]
    actions = None
    empty_text = gettext_lazy(
        "No alert yet. `manage.py outbox alerts test` sends a test message to each channel."
    )
    fieldsets = [
        (None, {"fields": ["trigger", "text_shown", "page", "sent"]}),
        (gettext_lazy("Times"), {"fields": ["opened", "resolved"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Read the notices with the alerts, and note whether the user may see failures."""
        has_failures = Value(may(request, "see failures"), output_field=BooleanField())
        rows = super().get_queryset(request).prefetch_related("notices")
        found: QuerySet[Any] = rows.annotate(has_failures=has_failures)
        return found

    @admin.display(description=gettext_lazy("problem"))
    def text_shown(self, row: Any) -> str:
        """Show the text of the latest check, if the user may see failures."""
        return row.text if row.has_failures else hidden_text()

    @admin.display(description=gettext_lazy("page"))
    def page(self, row: Alert) -> str:
        """Link the page about the problem."""
        return link(row.path, row.path) if row.path else NOTHING

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
