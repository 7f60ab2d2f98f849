"""The map of events and handlers: all of it, one app, or one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import events
from outbox.counting import minutes
from outbox.drawing.map import Arrow, Emission, Network, network_map
from outbox.formatting import listing
from outbox.models import Subscription
from outbox.monitor.failing import failing_groups
from outbox.monitor.status import HandlerStatus, status
from outbox.monitor.stops import BREAKER

from .base import ReadOnlyAdmin
from .handlers import rate_text
from .links import events_url
from .pages import may_open, show

#: The parameters that choose the focus.
APP, PROCESS = "app", "process"


@dataclass(frozen=True)
class Focus:
    """A part of the map, with a link to it.

    Attributes:
        name: an app, or an event or a handler whose causes and effects are shown.
        is_shown: whether the page shows it now.
    """

    name: str
    url: str
    is_shown: bool


def network() -> Network:
    """Return the declared events, and the active subscriptions of all releases."""
    rows = list(Subscription.objects.filter(active=True).order_by("handler", "event"))
    per_minute = minutes.rates()
    names = _event_names(rows, per_minute)
    handlers = sorted({row.handler for row in rows})
    return Network(
        events=names,
        handlers=handlers,
        arrows=[
            _arrow(row, name, per_minute.get(name, 0.0))
            for row in rows
            for name in _events_of(row, names)
        ],
        emissions=[
            Emission(handler, name, rate=share * per_minute.get(name, 0.0))
            for (handler, name), share in sorted(minutes.emitter_shares().items())
            if handler in handlers and name in names
        ],
        notes={name: _("%s per minute") % rate_text(rate) for name, rate in per_minute.items()},
        problems=_problems(),
    )


def _event_names(rows: Sequence[Subscription], per_minute: Mapping[str, float]) -> list[str]:
    # The outbox's own events need no subscriber: those of received messages exist without a source.
    declared = [
        name
        for name in events.registry
        if not name.startswith("outbox.") or any(row.selects(name) for row in rows)
    ]
    return sorted({*declared, *per_minute})


def _events_of(row: Subscription, names: Sequence[str]) -> list[str]:
    if row.has_several_events:
        return [name for name in names if row.selects(name)]
    return [row.event]


def _arrow(row: Subscription, event: str, rate: float) -> Arrow:
    note = _("held") if row.is_held else _settled_by(row)
    return Arrow(event, row.handler, note=note, is_held=row.is_held, rate=rate)


def _settled_by(row: Subscription) -> str:
    """Name the consumers that settle the events of a sink; "" for another handler."""
    names = listing(row.consumer_names)
    return _("settled by %s") % names if names else ""


def _problems() -> dict[str, str]:
    """Return what is wrong with handlers, in one or two words."""
    failing = {group.handler for group in failing_groups()}
    handlers = status(has_failures=False).handlers
    found = {one.handler: _problem(one, is_failing=one.handler in failing) for one in handlers}
    return {handler: words for handler, words in found.items() if words}


def _problem(one: HandlerStatus, *, is_failing: bool) -> str:
    if one.stop is not None and one.stop.kind == BREAKER:
        return _("breaker open")
    if is_failing:
        return _("failing")
    return ngettext("%d dead", "%d dead", one.dead) % one.dead if one.dead else ""


def map_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Show the map to users with the permission to view subscriptions."""
    page.require_view(request)
    whole = network()
    app, process = request.GET.get(APP, ""), request.GET.get(PROCESS, "")
    shown = _in_focus(whole, app, process)
    url = _rows_url(whole, process) if shown else ""
    picture = network_map(
        shown or whole,
        event_address=lambda name: _map_url(**{PROCESS: name}),
        handler_address=lambda name: _map_url(**{PROCESS: name}),
        app_address=lambda name: _map_url(**{APP: name}),
    )
    return show(
        request,
        "admin/outbox/subscription/map.html",
        of=page,
        title=_("Map"),
        network=whole,
        picture=picture,
        focus=(process or app) if shown else "",
        unknown=(process or app) if shown is None else "",
        rows_url=url if may_open(request.user, url) else "",
        whole_url=_map_url(),
        apps=[Focus(name, _map_url(**{APP: name}), name == app) for name in whole.apps],
        processes=[
            Focus(name, _map_url(**{PROCESS: name}), name == process) for name in whole.first_events
        ],
    )


def _in_focus(whole: Network, app: str, process: str) -> Network | None:
    """Return the part to show; None if no app, event or handler has the name."""
    if process:
        is_known = process in whole.events or process in whole.handlers
        return whole.of_process(process) if is_known else None
    if app:
        return whole.of_app(app) if app in whole.apps else None
    return whole


def _rows_url(whole: Network, name: str) -> str:
    """Return the page with the rows of an event or a handler; "" for another name."""
    if name in whole.events:
        return events_url(name=name)
    if name in whole.handlers:
        return f"{reverse('admin:outbox_subscription_changelist')}?{urlencode({'q': name})}"
    return ""


def _map_url(**query: str) -> str:
    url = reverse("admin:outbox_subscription_map")
    return f"{url}?{urlencode(query)}" if query else url
