"""Operations: what people did to the outbox, to be read."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy

from outbox.actions import described
from outbox.models import Operation
from outbox.templatetags.outbox_display import NOTHING, actor, moment

from .base import ReadOnlyAdmin


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    """Which action, on what, who, why, and how far it came."""

    list_display = ["number", "action", "by_shown", "touched", "state", "choice_shown", "started"]
    list_filter = ["action", "state"]
    list_per_page = 50
    ordering = ["-id"]
    actions = None
    empty_text = gettext_lazy(
        "Nobody has done anything yet. Actions stand on the lists of deliveries and subscriptions, "
        "and in `manage.py outbox`."
    )
    fieldsets = [
        (None, {"fields": ["action", "choice_shown", "reason", "by_shown", "state", "touched"]}),
        (gettext_lazy("When"), {"fields": ["started", "seen", "finished"]}),
    ]

    @admin.display(description=gettext_lazy("number"), ordering="id")
    def number(self, row: Operation) -> int:
        """Show the id, by which `manage.py outbox go-on` knows it."""
        return row.pk

    @admin.display(description=gettext_lazy("by"))
    def by_shown(self, row: Operation) -> str:
        """Name who did it."""
        return actor(row.by)

    @admin.display(description=gettext_lazy("choice"))
    def choice_shown(self, row: Operation) -> str:
        """Say what was chosen."""
        return described(row.choice)

    @admin.display(description=gettext_lazy("started at"))
    def started(self, row: Operation) -> str:
        """Say when it began."""
        return moment(row.started_at)

    @admin.display(description=gettext_lazy("last sign of life"))
    def seen(self, row: Operation) -> str:
        """Say when it last did something."""
        return moment(row.seen_at)

    @admin.display(description=gettext_lazy("finished at"))
    def finished(self, row: Operation) -> str:
        """Say when it was through."""
        return moment(row.finished_at) or NOTHING
