"""URLs of the outbox's admin pages."""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from outbox import tenants
from outbox.templatetags.outbox_display import NOTHING, link


def shown_to(viewer: Any, row: Any) -> Any:
    """Return a row that knows the user who views it. Methods that show a field get no request."""
    row.outbox_viewer = viewer
    return row


def viewer_of(row: Model) -> Any:
    """Return the user who views a row of a list or a page."""
    return row.outbox_viewer  # type: ignore[attr-defined]  # by `shown_to`


def may_follow(row: Model, permission: str) -> bool:
    """Return whether who views a row may open a linked page, which needs a view permission."""
    may: bool = viewer_of(row).has_perm(f"outbox.{permission}")
    return may


def event_link(row: Model, seq: int, name: str) -> str:
    """Return a link to an event in a field of a row; only its name without the permission."""
    return link(event_url(seq) if may_follow(row, "view_event") else "", name)


def delivery_link(row: Model, pk: int) -> str:
    """Return a link to a delivery in a field of a row; only its number without the permission."""
    return link(delivery_url(pk) if may_follow(row, "view_delivery") else "", pk)


def key_link(row: Model, key: str) -> str:
    """Return a link to the timeline of a key in a field of a row, or only the key."""
    return link(timeline_url(key) if may_follow(row, "view_event") else "", key)


def event_url(seq: int) -> str:
    """Return the URL of an event."""
    return reverse("admin:outbox_event_change", args=[seq])


def events_url(**query: str) -> str:
    """Return the URL of the list of events, searched or filtered."""
    return _with_query(reverse("admin:outbox_event_changelist"), query)


def tenant_link(row: Model, tenant: str | None) -> str:
    """Return a link to the events of a tenant in a field of a row, or only its name.

    If `TENANT` is not set any more, the list of events has no such filter.
    """
    if not tenant:
        return NOTHING
    is_linked = tenants.is_on() and may_follow(row, "view_event")
    return link(events_url(tenant=tenant) if is_linked else "", tenant)


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


def short_key(row: Model, key: str) -> str:
    """Return `key_link` of a key; a long key is shortened in the middle."""
    text = key if len(key) <= 20 else f"{key[:8]}…{key[-8:]}"
    if not may_follow(row, "view_event"):
        return format_html('<span class="outbox-key" title="{}">{}</span>', key, text)
    html = '<a class="outbox-key" href="{}" title="{}">{}</a>'
    return format_html(html, timeline_url(key), key, text)


def _with_query(url: str, query: dict[str, str]) -> str:
    return f"{url}?{urlencode(query)}" if query else url
