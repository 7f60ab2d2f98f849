"""Admin of endpoints: staff view, disable and enable them. Secrets are never shown."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from shared.read_only_admin import ReadOnly
from webhooks import services
from webhooks.models import Attempt, Endpoint, Message

#: Help for staff about a field.
HELP = {
    "url_state": _(
        "The result of a worker's look-up of the host. If the URL is refused, "
        "the endpoint is disabled; its owner has to correct the URL and enable "
        "it. If the host cannot be found, messages are still sent. If the URL "
        "stays unchecked, a worker of the queue webhooks.http is missing or "
        "busy: run `manage.py outbox doctor`."
    ),
    "last_failure": _(
        "The reason of the last failed delivery or look-up of the host. The "
        "delivery attempts show each request. The log of the workers shows each "
        "look-up (webhooks.url_checks)."
    ),
}


class ReasonForm(ActionForm):
    reason = forms.CharField(label=_("Reason"), max_length=200, required=False)


@admin.register(Endpoint)
class EndpointAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = [
        "url",
        "owner",
        "url_state",
        "is_enabled",
        "disabled_because",
        "failures",
        "last_success_at",
        "last_failure_at",
        "last_failure",
    ]
    list_filter = [("disabled_at", admin.EmptyFieldListFilter), "disabled_because", "url_state"]
    list_select_related = ["owner"]
    search_fields = ["id", "url", "owner__username", "description"]
    action_form = ReasonForm
    actions = ["disable", "enable"]

    def get_form(
        self, request: HttpRequest, obj: Endpoint | None = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm[Endpoint]]:
        """Return the form with help texts for staff; those of the API are for owners."""
        return super().get_form(request, obj, change, **{**kwargs, "help_texts": HELP})

    def has_disable_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("webhooks.disable_endpoint")

    @admin.display(description=_("enabled"), boolean=True)
    def is_enabled(self, endpoint: Endpoint) -> bool:
        return endpoint.enabled

    @admin.action(description=_("Disable with the given reason"), permissions=["disable"])
    def disable(self, request: HttpRequest, endpoints: QuerySet[Endpoint]) -> None:
        reason = request.POST.get("reason", "").strip()
        if not reason:
            self.message_user(
                request, _("Enter a reason. The owner of the endpoint sees it."), messages.ERROR
            )
            return
        for endpoint in endpoints:
            services.disable_by_staff(endpoint_id=endpoint.pk, note=reason)
        self._report(request, len(endpoints))

    @admin.action(description=_("Enable"), permissions=["disable"])
    def enable(self, request: HttpRequest, endpoints: QuerySet[Endpoint]) -> None:
        for endpoint in endpoints:
            services.enable_by_staff(endpoint_id=endpoint.pk)
        self._report(request, len(endpoints))

    def _report(self, request: HttpRequest, count: int) -> None:
        text = ngettext("%(count)d endpoint changed.", "%(count)d endpoints changed.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS)


@admin.register(Message)
class MessageAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = ["id", "type", "endpoint", "state", "attempts", "created_at", "settled_at"]
    list_filter = ["state", "type"]
    list_select_related = ["endpoint"]
    search_fields = ["id", "event_id", "endpoint__url"]


@admin.register(Attempt)
class AttemptAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = ["at", "endpoint", "message", "number", "status_code", "error", "duration_ms"]
    list_filter = ["status_code", "at"]
    list_select_related = ["endpoint", "message"]
    search_fields = ["endpoint__url", "message__id"]
