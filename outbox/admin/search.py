"""The search of the admin: one field for all ids, keys, and the terms of `OUTBOX["LOOKUPS"]`.

It is sent by POST. So a term, which may be an e-mail address, is in no URL and in no access log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _

from outbox.monitor.search import LONGEST, MOST, Found, cleaned, find, searched

from .base import ReadOnlyAdmin, may
from .links import delivery_url, event_url, events_url, timeline_url
from .pages import show


@dataclass(frozen=True)
class Hit:
    """One match: its kind, its name, and the URL of its page."""

    kind: str
    text: str
    url: str


def search_view(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Redirect to the only match of a term, or list the matches that the user may view."""
    term = cleaned(request.POST.get("term", ""))
    hits = list(_hits(page, request, find(term))) if term else []
    if len(hits) == 1:
        return HttpResponseRedirect(hits[0].url)
    return show(
        request,
        "admin/outbox/minute/search.html",
        of=page,
        title=_("Search"),
        term=term,
        hits=hits,
        searched=searched(),
        is_too_long=len(term) > LONGEST,
        is_cut=len(hits) >= MOST,
        most=MOST,
    )


def _hits(page: ReadOnlyAdmin, request: HttpRequest, found: Found) -> Iterator[Hit]:
    keys = set(found.keys)
    for row in found.rows:
        own = page.admin_site._registry.get(type(row))
        if own is not None and own.has_view_permission(request, row):
            keys.discard(_key_of(own, row))
            yield Hit(str(row._meta.verbose_name), str(row), _url(row, row.pk))
    if may(request, "see events"):
        yield from _hits_of_events(found, keys)
    if request.user.has_perm("outbox.view_delayedevent"):
        for delayed in found.delayed:
            yield Hit(_("delayed event"), delayed.name, _url(delayed, delayed.pk))
    if may(request, "see failures"):
        for delivery in found.deliveries:
            yield Hit(_("delivery"), str(delivery), delivery_url(delivery.pk))


def _hits_of_events(found: Found, keys: set[str]) -> Iterator[Hit]:
    for key in sorted(keys):
        yield Hit(_("timeline of a key"), key, timeline_url(key))
    for event in found.events:
        yield Hit(_("event"), event.name, event_url(event.seq))
    if found.tenant:
        yield Hit(_("events of a tenant"), found.tenant, events_url(tenant=found.tenant))
    if found.correlation:
        yield Hit(
            _("timeline of a correlation id"),
            str(found.correlation),
            timeline_url(found.correlation),
        )


def _key_of(page: Any, row: Model) -> str:
    return page.timeline_key(row) if hasattr(page, "timeline_key") else str(row.pk)


def _url(row: Model, pk: object) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[pk])
