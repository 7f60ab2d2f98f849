"""Answers of Django's error handlers: a problem under /api/, a page of the storefront elsewhere.

The admin keeps Django's own pages, and so does a site without the storefront.
"""

from __future__ import annotations

from contextlib import suppress

from django.apps import apps
from django.core.exceptions import BadRequest as DjangosBadRequest
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views import defaults
from django.views.csrf import csrf_failure as djangos_csrf_failure
from rest_framework import exceptions

from outbox.context import current_correlation_id
from shop.problems import API, BadRequest, InternalError, as_refusal, problem
from storefront.error_pages import error_page, untrusted_form


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer for handler400. It reads no session: a cookie may be the reason."""
    if request.path.startswith(API):
        return problem(as_refusal(exception) or BadRequest())
    if isinstance(exception, DisallowedHost):  # sent to another site, mostly by a scanner
        return defaults.bad_request(request, exception)
    # Only the text of this exception is meant for visitors.
    why = str(exception) if isinstance(exception, DjangosBadRequest) else ""
    if _is_of_storefront(request):
        return error_page(400, why=why)
    if why:
        return render(request, "shop/refused.html", {"why": why}, status=400)
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer for handler403."""
    if request.path.startswith(API):
        return problem(exceptions.PermissionDenied())
    if _is_of_storefront(request):
        return error_page(403, request=request)
    return defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer for handler404."""
    if request.path.startswith(API):
        return problem(exceptions.NotFound())
    if _is_of_storefront(request):
        return error_page(404, request=request)
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Answer for handler500. It reads no database, which may be the reason."""
    if request.path.startswith(API):
        return problem(InternalError())
    if _is_of_storefront(request):
        # The reason may also be in its template, or in static files that were not collected.
        with suppress(Exception):
            return error_page(500, correlation_id=current_correlation_id())
    return defaults.server_error(request)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """Answer a form without its CSRF token."""
    if _is_of_storefront(request):
        return untrusted_form(request)
    return djangos_csrf_failure(request, reason)


def _is_of_storefront(request: HttpRequest) -> bool:
    is_of_admin = request.path.startswith(reverse("admin:index"))
    return apps.is_installed("storefront") and not is_of_admin
