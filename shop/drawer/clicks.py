"""Remember the last click of each session: the last form that it sent, with its correlation id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest, HttpResponseBase
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from outbox.context import current_cause

_KEY = "last_click"
#: The clicks that are remembered, by the name of the view: the text of the button.
LABELS = {
    "storefront:cancel": _("Cancel the order now"),
    "storefront:change_basket": _("Change the basket"),
    "storefront:checkout": _("Place the order"),
    "storefront:change_address": _("Change your e-mail address"),
    "storefront:change_password": _("Change your password"),
    "storefront:forgotten_password": _("Send the link"),
    "storefront:new_password": _("Change the password"),
    "storefront:order_again": _("Order these products again"),
    "storefront:send_verification": _("Send the link again"),
    "storefront:sign_in": _("Sign in"),
    "storefront:sign_out": _("Sign out"),
    "storefront:sign_up": _("Sign up"),
    "storefront:verify_address": _("This is my address"),
}


@dataclass(frozen=True, kw_only=True)
class Click:
    """The last click: the text of its button, and its correlation id."""

    label: str | Promise
    correlation_id: UUID


def last_click(session: SessionBase) -> Click | None:
    """Return the last click of a session."""
    stored = session.get(_KEY)
    if not stored or stored[0] not in LABELS:
        return None
    return Click(label=LABELS[stored[0]], correlation_id=UUID(stored[1]))


class LastClickMiddleware:
    """Store the correlation id of each form of the storefront in the session."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        # Read after the view: its first event replaces an id that belongs to another user.
        correlation_id = current_cause().correlation_id
        match = request.resolver_match
        if request.method == "POST" and match is not None and match.view_name in LABELS:
            request.session[_KEY] = (match.view_name, str(correlation_id))
        return response
