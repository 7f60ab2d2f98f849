"""The entry of the overview in the admin's index and sidebar, with the health light."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html

from outbox import databases
from outbox.models import Minute
from outbox.monitor.light import light_of_all
from outbox.templatetags.outbox_display import shown_badge

from .in_database import NAME


def overview_first(app_list: list[Any], request: HttpRequest) -> list[Any]:
    """Return the list with the outbox as its first app, and the overview as its first entry.

    The entry shows the health light: a colour, a shape and a word. If there are several databases,
    it is that of the worst one, and the entry leads to it. Call it in your admin site::

        class Site(AdminSite):
            def get_app_list(self, request, app_label=None):
                from outbox.admin import overview_first

                return overview_first(super().get_app_list(request, app_label), request)

    Import it within the method: the modules of `outbox.admin` need the site. The light costs a few
    small queries for each page, and needs the stylesheet `outbox/header.css`.
    """
    ours = [app for app in app_list if app["app_label"] == Minute._meta.app_label]
    for app in ours:
        app["models"].sort(key=lambda entry: entry["model"] is not Minute)
        if request.user.has_perm("outbox.view_minute"):
            _add_light(app["models"][0], request)
    return [*ours, *(app for app in app_list if app not in ours)]


def _add_light(entry: dict[str, Any], request: HttpRequest) -> None:
    found, using = light_of_all()
    # A page of another database than the first one adds its own name to addresses without one.
    # The app's index does so by its request. Of other pages, the name is taken out of the request.
    if using != (request.GET.get(NAME) or databases.primary_of(databases.alias())):
        entry["admin_url"] = f"{entry['admin_url']}?{NAME}={using}"
    badge = shown_badge(found.condition, found.text)
    entry["name"] = format_html("{} {}", entry["name"], badge)
