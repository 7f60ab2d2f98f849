"""The map in the admin: who emits what and who hears it, drawn from code and subscription rows."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.forms import Media
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import formats
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from outbox import events
from outbox.drawing.map import Arrow, Network, network_map
from outbox.models import Subscription
from outbox.rates import rates

from .links import events_url


def network() -> Network:
    """Return what the map shows: declared events, and the active subscriptions of all releases."""
    rows = list(Subscription.objects.filter(active=True).order_by("handler", "event"))
    per_minute = rates()
    notes = {name: _rate(per_minute[name]) for name in per_minute}
    arrows = [
        Arrow(
            event=row.event,
            handler=row.handler,
            note=_("held") if row.is_held else "",
            is_held=row.is_held,
        )
        for row in rows
    ]
    return Network(
        events=sorted({*events.registry, *per_minute}),
        handlers=sorted({row.handler for row in rows}),
        arrows=arrows,
        notes=notes,
    )


def map_view(request: HttpRequest, *, site: AdminSite, media: Media) -> HttpResponse:
    """Show the map to those who may see subscriptions."""
    if not request.user.has_perm("outbox.view_subscription"):
        raise PermissionDenied
    shown = network()
    context = {
        **site.each_context(request),
        "title": _("Map"),
        "opts": Subscription._meta,
        "media": media,
        "network": shown,
        "picture": network_map(
            shown,
            event_address=lambda name: events_url(name=name),
            handler_address=_subscriptions_url,
        ),
    }
    return TemplateResponse(request, "admin/outbox/subscription/map.html", context)


def _rate(per_minute: float) -> str:
    return _("%s a minute") % formats.number_format(per_minute, 1 if per_minute < 10 else 0)


def _subscriptions_url(handler: str) -> str:
    return f"{reverse('admin:outbox_subscription_changelist')}?{urlencode({'q': handler})}"
