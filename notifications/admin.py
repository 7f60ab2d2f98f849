"""Admin of e-mails: their text, and whether they were sent; staff may request a resend."""

from __future__ import annotations

from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.clickjacking import xframe_options_sameorigin

from notifications import services
from notifications.models import Email, Resend
from outbox.admin import actor
from shared.read_only_admin import ReadOnly

REFUSALS = (
    services.EmailNotSentYet,
    services.RecipientForgotten,
    services.AddressNotSendable,
)
# The preview allows the e-mail's own inline styles, but no script, picture or form.
PREVIEW_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; "
    "base-uri 'none'; form-action 'none'; sandbox"
)


class ResendInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]  # generic in stubs only
    model = Resend
    fields = ["requested_at", "requested_by_shown", "sent_at", "unsent_reason"]
    readonly_fields = ["requested_at", "requested_by_shown", "sent_at", "unsent_reason"]

    def has_view_permission(self, request: HttpRequest, _email: Email | None = None) -> bool:
        return request.user.has_perm("notifications.view_email")

    @admin.display(description=_("requested by"))
    def requested_by_shown(self, resend: Resend) -> str:
        return actor(resend.requested_by)

    @admin.display(description=_("reason why not sent"))
    def unsent_reason(self, resend: Resend) -> str:
        return resend.unsent_reason


@admin.register(Email)
class EmailAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in stubs only
    list_display = [
        "subject",
        "kind",
        "recipient",
        "language",
        "written_at",
        "sent_at",
        "unsent_reason",
    ]
    list_filter = [
        "kind",
        "language",
        ("sent_at", admin.EmptyFieldListFilter),
        "suppressed_because",
        ("refusal", admin.EmptyFieldListFilter),
    ]
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
        "unsent_reason",
        "suppressed_because",
        "refusal",
        "subject",
        "preview",
    ]
    readonly_fields = ["unsent_reason", "preview"]
    inlines = [ResendInline]
    actions = ["send_again"]

    class Media:
        css = {"all": ["notifications/emails.css"]}

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notifications.resend_email")

    @admin.action(description=_("Send again"), permissions=["resend"])
    def send_again(self, request: HttpRequest, emails: QuerySet[Email]) -> None:
        asked = 0
        for email in emails:
            try:
                services.request_resend(email_id=email.pk, by=f"user:{request.user.pk}")
            except REFUSALS as refusal:
                self.message_user(request, str(refusal), messages.ERROR)
            else:
                asked += 1
        if not asked:
            return
        done = ngettext(
            "%(count)d e-mail will be sent again.", "%(count)d e-mails will be sent again.", asked
        )
        self.message_user(request, done % {"count": asked}, messages.SUCCESS)

    def get_urls(self) -> list[URLPattern]:
        html = self.admin_site.admin_view(xframe_options_sameorigin(self.html))
        own = [path("<uuid:email_id>/html/", html, name="notifications_email_html")]
        return own + super().get_urls()

    def html(self, request: HttpRequest, email_id: UUID) -> HttpResponse:
        email = get_object_or_404(Email, pk=email_id)
        if not self.has_view_permission(request, email):
            raise PermissionDenied
        return HttpResponse(email.html, headers={"Content-Security-Policy": PREVIEW_POLICY})

    @admin.display(description=_("requested by"))
    def requested_by_shown(self, resend: Resend) -> str:
        return actor(resend.requested_by)

    @admin.display(description=_("reason why not sent"))
    def unsent_reason(self, email: Email) -> str:
        return email.unsent_reason

    @admin.display(description=_("HTML, and text"))
    def preview(self, email: Email) -> str:
        return format_html(
            '<div class="email-preview"><iframe src="{}" sandbox="" title="{}"></iframe>'
            "<pre>{}</pre></div>",
            reverse("admin:notifications_email_html", args=[email.pk]),
            _("The HTML of the e-mail"),
            email.text,
        )
