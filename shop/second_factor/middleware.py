"""Restrict staff without a verified second factor to the second factor's own pages."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlencode

import django_otp
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from . import services

#: Names of the views that such a session may use.
OPEN = ("second_factor:account", "second_factor:verify", "second_factor:enrol", "admin:logout")


class SecondFactorMiddleware:
    """Send a session that lacks the second factor to its page; elsewhere, make it anonymous.

    It comes after django-otp's own middleware. A view outside the admin, such as an API, sees an
    anonymous user, and `request.second_factor_missing` is the reason. A page of the storefront
    that needs a sign-in redirects to the storefront's sign-in, and this to the second factor.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_missing(request) or request.path in map(reverse, OPEN):
            return _after_sign_in(request, self.get_response(request))
        if request.path.startswith(reverse("admin:index")):
            return _to_code(request, _return_to(request))
        if _is_sign_in(request) and request.method == "GET":
            return _to_code(request, request.GET.get("next", "/"))
        request.user = AnonymousUser()
        request.second_factor_missing = True  # type: ignore[attr-defined]  # read by shop.problems
        return _after_sign_in(request, self.get_response(request))


def is_missing(request: HttpRequest) -> bool:
    """Return whether this is a session of staff that needs the second factor and lacks it."""
    user = request.user
    if not (user.is_active and (user.is_staff or user.is_superuser)):
        return False
    if services.is_verified(user):
        return False
    return bool(settings.SECOND_FACTOR == "required" or django_otp.user_has_device(user))


def page_for(request: HttpRequest) -> str:
    """Return the page that such a session needs next."""
    has_one = django_otp.user_has_device(request.user)
    return reverse("second_factor:verify" if has_one else "second_factor:enrol")


def _after_sign_in(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Send a user whose sign-in to the storefront has just succeeded to the second factor."""
    if _is_sign_in(request) and response.status_code == HTTPStatus.FOUND and is_missing(request):
        return _to_code(request, response.headers["Location"])
    return response


def _is_sign_in(request: HttpRequest) -> bool:
    return apps.is_installed("storefront") and request.path == reverse("storefront:sign_in")


def _to_code(request: HttpRequest, then: str) -> HttpResponseBase:
    return redirect(f"{page_for(request)}?{urlencode({'next': then})}")


def _return_to(request: HttpRequest) -> str:
    return request.get_full_path() if request.method == "GET" else reverse("admin:index")
