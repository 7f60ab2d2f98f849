"""The page of blocked keys."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from outbox.monitor.blocked import blocked_keys

from .base import ReadOnlyAdmin
from .pages import show


def blocked_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Show the keys with the most blocked deliveries, and what blocks each."""
    page.require_view(request)
    title, lines = _("Blocked keys"), blocked_keys()
    return show(request, "admin/outbox/delivery/blocked.html", of=page, title=title, lines=lines)
