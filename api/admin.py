"""Admin of API tokens: view and revoke them. `manage.py create_api_token` creates one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from .models import ApiToken


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    """Tokens, their users and their times. Deleting a token revokes it."""

    list_display = ["start", "label", "user", "created_at"]
    list_select_related = ["user"]
    search_fields = ["label", "user__username"]
    readonly_fields = ["user", "start", "created_at"]

    def has_add_permission(self, *_: Any) -> bool:
        """Refuse: a page that shows a secret once is easily lost, or cached."""
        return False
