"""The page of contracts: channels, messages, fields and examples of the AsyncAPI document."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _

from outbox.contracts.asyncapi import as_text, document
from outbox.contracts.asyncapi.outline import ChannelRow, channel_rows

from .base import ReadOnlyAdmin
from .pages import show


def contracts_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Show the document, or the reason why there is none."""
    page.require_view(request)
    problem, channels = "", list[ChannelRow]()
    try:
        channels = list(channel_rows(document()))
    except (ImproperlyConfigured, ValueError) as error:
        problem = str(error)
    return show(
        request,
        "admin/outbox/minute/contracts.html",
        of=page,
        title=_("Contracts"),
        channels=channels,
        problem=problem,
    )


def contracts_download(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Return the document as a file; `?external=1`: without internal channels."""
    page.require_view(request)
    try:
        made = document(internal="external" not in request.GET)
    except (ImproperlyConfigured, ValueError):  # the page shows the reason
        return HttpResponseRedirect(reverse("admin:outbox_minute_contracts"))
    headers = {"Content-Disposition": 'attachment; filename="asyncapi.json"'}
    return HttpResponse(as_text(made), content_type="application/json", headers=headers)
