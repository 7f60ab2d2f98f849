"""Limits on how long staff and customers of the storefront stay signed in.

A session ends SESSION_HOURS after its sign-in, and SESSION_IDLE_MINUTES after the last request that
a person made. Programs of customers use tokens, which do not expire.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.middleware import SessionMiddleware
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, HttpResponseBase

SIGNED_IN, SEEN = "signed_in_at", "seen_at"
#: The parameter of an address to which a page without JavaScript reloads itself.
RELOADS = "reload"
#: Seconds between two writes of the time of the latest request.
RESOLUTION = 60.0


@receiver(user_logged_in, dispatch_uid="shop.sessions")
def begin(sender: object, request: HttpRequest, **more: Any) -> None:
    """Store the time of the sign-in."""
    request.session[SIGNED_IN] = request.session[SEEN] = time.time()


class KeptCookieMiddleware(SessionMiddleware):
    """Django's sessions, except that the answer to a poll never deletes the cookie.

    A sign-in and a new password replace the session and its cookie. A poll that the browser sent
    with the former cookie finds no session. Its answer may arrive last: if it deleted the cookie,
    it would sign the user out.
    """

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Store the session, and drop a deletion of its cookie if a poll is answered."""
        response = super().process_response(request, response)
        cookie = response.cookies.get(settings.SESSION_COOKIE_NAME)
        if cookie is not None and not cookie.value and _is_polling(request):
            del response.cookies[settings.SESSION_COOKIE_NAME]
        return response


class SessionLimitMiddleware:
    """End a session that is too old or was not used for too long."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if settings.SESSION_COOKIE_NAME in request.COOKIES and SESSION_KEY in request.session:
            if _has_ended(request.session):
                request.session.flush()
                request.session_has_ended = True  # type: ignore[attr-defined]  # for the storefront
                if _is_polling(request):  # reload the whole page, not the part that was polled
                    return HttpResponse(headers={"HX-Refresh": "true"})
            # A page that asks again by itself does not show that a person is present.
            elif not _is_polling(request) and RELOADS not in request.GET:
                _note_use(request.session)
        return self.get_response(request)


def _is_polling(request: HttpRequest) -> bool:
    return "HX-Request" in request.headers


def _has_ended(session: SessionBase) -> bool:
    """Return whether a limit has passed; a session of a release without limits has no start."""
    now, began = time.time(), session.get(SIGNED_IN, 0.0)
    is_old = now - began >= settings.SESSION_HOURS * 3600
    return bool(is_old or now - session.get(SEEN, began) >= settings.SESSION_IDLE_MINUTES * 60)


def _note_use(session: SessionBase) -> None:
    if time.time() - session[SEEN] >= RESOLUTION:
        session[SEEN] = time.time()
