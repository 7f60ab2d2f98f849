"""The outbox's admin pages: their list for the navigation, and how each is rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        name: name of its URL.
        title: its title.
        permission: the required permission.
        setting: the key of `OUTBOX` without which the page is empty, and not in the navigation.
        entry_key: the key that an entry of that setting needs for it.
    """

    name: str
    title: str | Promise
    permission: str
    setting: str = ""
    entry_key: str = ""

    @property
    def url(self) -> str:
        """Its URL."""
        return reverse(f"admin:{self.name}")

    @property
    def is_used(self) -> bool:
        """Whether it belongs into the navigation of this project."""
        if not self.setting:
            return True
        entries = getattr(settings, "OUTBOX", {}).get(self.setting) or {}
        if not self.entry_key:
            return bool(entries)
        return any(isinstance(one, Mapping) and one.get(self.entry_key) for one in entries.values())


PAGES: Sequence[Page] = (
    Page("outbox_minute_changelist", _("Overview"), "outbox.view_minute"),
    Page("outbox_event_changelist", _("Events"), "outbox.view_event"),
    Page("outbox_event_timeline", _("Timeline"), "outbox.view_event"),
    Page("outbox_delivery_dead", _("Failures"), "outbox.view_delivery"),
    Page("outbox_subscription_handlers", _("Handlers"), "outbox.view_subscription"),
    Page("outbox_event_sinks", _("Sinks"), "outbox.view_event", "SINKS"),
    Page("outbox_event_sources", _("Sources"), "outbox.view_event", "SOURCES"),
    Page(
        "outbox_settlement_changelist",
        _("Settlements"),
        "outbox.view_settlement",
        "SINKS",
        "CONSUMERS",
    ),
    Page("outbox_delivery_changelist", _("Deliveries"), "outbox.view_delivery"),
    Page("outbox_delivery_blocked", _("Blocked keys"), "outbox.view_delivery"),
    Page("outbox_delayedevent_changelist", _("Delayed events"), "outbox.view_delayedevent"),
    Page("outbox_subscription_map", _("Map"), "outbox.view_subscription"),
    Page("outbox_alert_changelist", _("Alerts"), "outbox.view_alert", "ALERTS"),
    Page("outbox_operation_changelist", _("Operations"), "outbox.view_operation"),
    Page("outbox_minute_periodic", _("Periodic tasks"), "outbox.view_minute"),
    Page("outbox_minute_contracts", _("Contracts"), "outbox.view_minute"),
    Page("outbox_minute_health_checks", _("Health checks"), "outbox.view_minute"),
)


def may_open(user: Any, url: str) -> bool:
    """Return whether a user may open one of `PAGES`, or a page below it."""
    needed = [page.permission for page in PAGES if url.startswith(page.url)]
    may: bool = user.has_perms(needed)
    return may


def show(
    request: HttpRequest,
    template: str,
    *,
    of: admin.ModelAdmin[Any],
    title: str,
    **context: Any,
) -> HttpResponse:
    """Render a page in the admin, under the model that it belongs to."""
    context = {
        **of.admin_site.each_context(request),
        "title": title,
        "opts": of.opts,
        "media": of.media,
        **context,
    }
    return TemplateResponse(request, template, context)
