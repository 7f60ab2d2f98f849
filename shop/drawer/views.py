"""The drawer's part of each page, its refresh, and its buttons."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST, require_safe

from orders.queries import orders_of
from shop.drawer import story
from shop.drawer.clicks import last_click
from shop.up import control

#: By fault: the button, and the sentence while it lasts.
BUTTONS = {
    "kill-worker": (_("Kill a worker"), _("The worker was killed. It starts again.")),
    "stop-broker": (_("Stop the broker"), _("The broker is stopped.")),
    "bank-down": (_("Bank down for 30 s"), _("The bank is down.")),
}


def development(request: HttpRequest) -> dict[str, Any]:
    """Give templates the names of the drawer's own templates, and its content on demand."""
    return {
        "development": {
            "head": "drawer/head.html",
            "body": "drawer/drawer.html",
            "content": lambda: _content(request, _order_of(request)),
            "buttons": lambda: _buttons(),
            "order": _order_of(request) or "",
        }
    }


@require_safe
def story_part(request: HttpRequest) -> HttpResponse:
    """Return the story of the last click, or of the order on the page."""
    content = _content(request, request.GET.get("order", ""))
    return render(request, "drawer/story.html", {"content": content})


@require_POST
def fault(request: HttpRequest, name: str) -> HttpResponse:
    """Ask the supervisor for a fault, and return to the page."""
    folder = Path(settings.UP_CONTROL)
    if name not in control.state_of(folder).possible:
        raise Http404
    control.request(folder, name)
    if "HX-Request" in request.headers:
        return HttpResponse(status=204)
    back = request.POST.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()})
    return HttpResponseRedirect(back if is_ours else "/")


def _order_of(request: HttpRequest) -> str:
    match = request.resolver_match
    if match is None or match.view_name != "storefront:order":
        return ""
    return str(match.kwargs["pk"])


def _content(request: HttpRequest, order: str) -> dict[str, Any]:
    """Return the click, its story, and the faults in effect.

    A click without events leaves the story of the order on the page, if it is the visitor's.
    """
    click = last_click(request.session)
    found = story.story_of_click(click.correlation_id) if click else None
    content: dict[str, Any] = {"click": click, "story": found, "faults": _faults()}
    if (found is None or not found.happenings) and (order_id := _own(request, order)):
        content |= {"order": order_id, "story": story.story_of_order(order_id)}
    return content


def _own(request: HttpRequest, order: str) -> UUID | None:
    try:
        order_id = UUID(order)
    except ValueError:
        return None
    return order_id if orders_of(request.user).filter(pk=order_id).exists() else None


def _buttons() -> list[tuple[str, Any]]:
    possible = control.state_of(Path(settings.UP_CONTROL)).possible
    return [(name, BUTTONS[name][0]) for name in possible]


def _faults() -> list[tuple[Any, int]]:
    """Return the sentence of each fault in effect, and the seconds that are left."""
    left = control.state_of(Path(settings.UP_CONTROL)).seconds_left
    return [(BUTTONS[name][1], round(seconds)) for name, seconds in left.items()]
