"""URLs of the outbox's admin pages."""

from __future__ import annotations

from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from outbox import tenants
from outbox.templatetags.outbox_display import NOTHING, link


def event_url(seq: int) -> str:
    """Return the URL of an event."""
    return reverse("admin:outbox_event_change", args=[seq])


def events_url(**query: str) -> str:
    """Return the URL of the list of events, searched or filtered."""
    return _with_query(reverse("admin:outbox_event_changelist"), query)


def tenant_link(tenant: str | None) -> str:
    """Return a link to the events of a tenant; only its name if `TENANT` is not set any more."""
    if not tenant:
        return NOTHING
    return link(events_url(tenant=tenant) if tenants.is_on() else "", tenant)


def delivery_url(pk: int) -> str:
    """Return the URL of a delivery."""
    return reverse("admin:outbox_delivery_change", args=[pk])


def deliveries_url(**query: str) -> str:
    """Return the URL of the list of deliveries, filtered."""
    return _with_query(reverse("admin:outbox_delivery_changelist"), query)


def dead_url(**query: str) -> str:
    """Return the URL of the groups of dead letters, filtered."""
    return _with_query(reverse("admin:outbox_delivery_dead"), query)


def operation_url(pk: int) -> str:
    """Return the URL of an operation."""
    return reverse("admin:outbox_operation_change", args=[pk])


def settlements_url(**query: str) -> str:
    """Return the URL of the list of settlements, filtered."""
    return _with_query(reverse("admin:outbox_settlement_changelist"), query)


def handlers_url() -> str:
    """Return the URL of the page of handlers."""
    return reverse("admin:outbox_subscription_handlers")


def timeline_url(sought: object) -> str:
    """Return the URL of the timeline of a key, an event id or a correlation id."""
    return _with_query(reverse("admin:outbox_event_timeline"), {"q": str(sought)})


def short_key(key: str) -> str:
    """Return a link to the timeline of a key; a long key is shortened in the middle."""
    text = key if len(key) <= 20 else f"{key[:8]}…{key[-8:]}"
    html = '<a class="outbox-key" href="{}" title="{}">{}</a>'
    return format_html(html, timeline_url(key), key, text)


def _with_query(url: str, query: dict[str, str]) -> str:
    return f"{url}?{urlencode(query)}" if query else url
