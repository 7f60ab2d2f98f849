"""The pages of refused requests and of errors, in the look of the shop."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url
from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

#: By status of HTTP: the heading, and what to do.
TEXTS: dict[int, tuple[str | Promise, str | Promise]] = {
    HTTPStatus.BAD_REQUEST: (
        gettext_lazy("Bad request"),
        gettext_lazy("This request is not valid. Start again from the list of products."),
    ),
    HTTPStatus.FORBIDDEN: (
        gettext_lazy("Not allowed"),
        gettext_lazy("You may not open this page. Sign in with another account."),
    ),
    HTTPStatus.NOT_FOUND: (
        gettext_lazy("Page not found"),
        gettext_lazy(
            "The address is wrong, or it belongs to another account. Your orders are in your list."
        ),
    ),
    HTTPStatus.METHOD_NOT_ALLOWED: (
        gettext_lazy("This address cannot be opened directly"),
        gettext_lazy("It is only for forms of the shop. Nothing was changed."),
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        gettext_lazy("Please wait"),
        gettext_lazy("You have sent too many requests. Nothing was changed. Your basket is kept."),
    ),
    HTTPStatus.INTERNAL_SERVER_ERROR: (
        gettext_lazy("Something went wrong"),
        gettext_lazy(
            "Try again in a minute. If you placed an order, look at your orders first: it may be "
            "stored."
        ),
    ),
}


def error_page(
    status: int,
    *,
    request: HttpRequest | None = None,
    why: str = "",
    wait: float | None = None,
    back: tuple[str, str] | None = None,
    correlation_id: str = "",
) -> HttpResponse:
    """Return the page of an error.

    Args:
        request: shows who is signed in. Without it, the page reads no database.
        why: the sentence, if it is not the usual one of the status.
        wait: seconds until the same request may succeed.
        back: the address to go on at, and the text of its link; by default the products.
        correlation_id: by which staff find what happened.
    """
    title, text = TEXTS[status]
    url, link = back or (resolve_url("storefront:catalogue"), _("To the products"))
    context = {
        "title": title,
        "text": why or text,
        "wait": math.ceil(wait or 0),
        "back": url,
        "back_text": link,
        "correlation_id": correlation_id,
    }
    page = render_to_string("storefront/error.html", context, request)
    headers = {"Retry-After": str(context["wait"])} if wait else {}
    return HttpResponse(page, status=status, headers=headers)


def post_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Answer other methods than POST with a page, where Django's `require_POST` sends none."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method == "POST":
            return view(request, *args, **kwargs)
        answer = error_page(HTTPStatus.METHOD_NOT_ALLOWED, request=request)
        answer.headers["Allow"] = "POST"
        return answer

    return guarded


def untrusted_form(request: HttpRequest) -> HttpResponse:
    """Return the page for a form without its CSRF token, with a link to the page of the form."""
    context = {
        "title": _("Please open the page again"),
        "text": _(
            "The form is out of date: you have signed in or out since, or your browser stores no "
            "cookies. Nothing was changed. Your basket is kept."
        ),
        "back": _page_of_form(request),
        "back_text": _("Open the page again"),
    }
    page = render_to_string("storefront/error.html", context, request)
    return HttpResponse(page, status=HTTPStatus.FORBIDDEN)


def _page_of_form(request: HttpRequest) -> str:
    """Return the address from which the form was sent, if it is on this site."""
    url = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(
        url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return url if is_ours else resolve_url("storefront:basket")
