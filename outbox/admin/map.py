"""The map in the admin: events and their handlers, from the code and the subscription rows."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import formats
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from outbox import events
from outbox.counting.minutes import rates
from outbox.drawing.map import Arrow, Network, network_map
from outbox.models import Subscription

from .base import ReadOnlyAdmin
from .links import events_url
from .pages import show


def network() -> Network:
    """Return the declared events, and the active subscriptions of all releases."""
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


def map_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Show the map to users with the permission to view subscriptions."""
    page.require_view(request)
    shown = network()
    picture = network_map(
        shown,
        event_address=lambda name: events_url(name=name),
        handler_address=_subscriptions_url,
    )
    template = "admin/outbox/subscription/map.html"
    return show(request, template, of=page, title=_("Map"), network=shown, picture=picture)


def _rate(per_minute: float) -> str:
    return _("%s per minute") % formats.number_format(per_minute, 1 if per_minute < 10 else 0)


def _subscriptions_url(handler: str) -> str:
    return f"{reverse('admin:outbox_subscription_changelist')}?{urlencode({'q': handler})}"
