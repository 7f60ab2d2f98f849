"""E-mails as they were written, and whether they were sent."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from notifications.models import Email


def never(*_: Any, **__: Any) -> bool:
    return False


@admin.register(Email)
class EmailAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = ["subject", "kind", "recipient", "language", "written_at", "sent_at"]
    list_filter = ["kind", "language", ("sent_at", admin.EmptyFieldListFilter)]
    search_fields = ["order_id", "recipient", "subject", "message_id"]
    fields = [
        "order_id",
        "kind",
        "about",
        "recipient",
        "language",
        "message_id",
        "written_at",
        "sent_at",
        "subject",
        "preview",
        "source",
    ]
    readonly_fields = ["preview", "source"]

    has_add_permission = has_change_permission = has_delete_permission = never

    @admin.display(description=_("Text"))
    def preview(self, email: Email) -> str:
        return format_html("<pre>{}</pre>", email.text)

    @admin.display(description=_("Source of the HTML"))
    def source(self, email: Email) -> str:
        return format_html("<pre>{}</pre>", email.html)
