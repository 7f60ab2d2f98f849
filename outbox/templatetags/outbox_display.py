"""Template filters of the admin for states, times, spans of time and actors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from math import inf
from typing import Any
from urllib.parse import urlencode

import django
from django import template
from django.contrib.auth import get_permission_codename, get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import formats, timezone
from django.utils.html import escape, format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import formatting
from outbox.counting.counters import WAIT_BOUNDS
from outbox.models import Attempt, Delivery
from outbox.monitor.conditions import Condition
from outbox.monitor.timeline import TimelineDelivery

register = template.Library()

NOTHING = "-"
DEEPEST = 9


#: A shape for each state and condition, for people who do not see the colours.
SHAPES = {
    "pending": "○",
    "sent": "◐",
    "done": "✓",
    "dead": "✕",
    "discarded": "⊘",
    "parked": "Ⅱ",
    "blocked": "⊢",
    "failing": "▲",
    "held": "Ⅱ",
    "overdue": "◷",
    "in_progress": "◐",
    "complete": "✓",
}


@register.filter
def badge(state: str) -> str:
    """Return a delivery's state as a badge with a colour, a shape and a word."""
    return shown_badge(state, Delivery.State(state).label)


@register.filter
def condition_badge(condition: str) -> str:
    """Return a condition as a badge with a colour, a shape and a word."""
    return shown_badge(condition, Condition(condition).label)


def shown_badge(name: str, label: object) -> str:
    """Return a badge with the colour and shape of a state or condition, and a word."""
    html = (
        '<span class="outbox-badge outbox-{}"><span class="outbox-shape" aria-hidden="true">{}'
        "</span> {}</span>"
    )
    return format_html(html, name, SHAPES[name], label)


@register.filter
def state_name(state: str) -> str:
    """Return the label of a delivery's state."""
    return str(Delivery.State(state).label)


@register.filter
def with_code(text: str) -> str:
    """Return the text with parts in backticks as code elements, escaped."""
    parts = re.split(r"`([^`]*)`", str(text))
    words = [
        format_html("<code>{}</code>", part) if number % 2 else escape(part)
        for number, part in enumerate(parts)
    ]
    return format_html("{}" * len(words), *words)


@register.filter
def listing(parts: Iterable[str]) -> str:
    """Return the parts with the separator of the active language."""
    return formatting.listing(parts)


@register.filter
def timestamp(value: datetime | None) -> str:
    """Return a time to the second, the same in all languages: 2026-11-24 23:40:12."""
    if value is None:
        return NOTHING
    local = timezone.localtime(value)
    return format_html(
        '<time class="outbox-timestamp" datetime="{}">{}</time>',
        value.isoformat(),
        formats.date_format(local, "Y-m-d H:i:s"),
    )


@register.filter
def span(value: timedelta) -> str:
    """Return a span of time in at most two units: 12 ms, 1.32 s, 3 min 2 s, 2 h 5 min, 3 d 4 h."""
    seconds = abs(value.total_seconds())
    if seconds < 0.9995:
        return _("%d ms") % round(seconds * 1000)
    if seconds < 60:
        # Settings are whole seconds, without decimals. Measured times are rarely whole.
        is_whole = seconds == int(seconds)
        return _seconds(seconds, decimals=0 if is_whole else 1 if seconds >= 10 else 2)
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return _pair(_("%d d") % days, _("%d h"), hours % 24)
    if hours:
        return _pair(_("%d h") % hours, _("%d min"), minutes % 60)
    return _pair(_("%d min") % minutes, _("%d s"), int(seconds % 60))


@register.filter
def since(value: datetime | None, start: datetime) -> str:
    """Return the signed span from `start` to a time: +0.42 s."""
    if value is None:
        return ""
    seconds = (value - start).total_seconds()
    shown = _seconds(abs(seconds), decimals=2) if abs(seconds) < 60 else span(value - start)
    return ("-" if seconds < 0 else "+") + shown


@register.filter
def run_time(delivery: Delivery | TimelineDelivery) -> str:
    """Return the duration of the successful attempt; "" if the delivery is not done."""
    if delivery.state != Delivery.State.DONE or not delivery.started_at or not delivery.settled_at:
        return ""
    return span(delivery.settled_at - delivery.started_at)


@register.filter
def attempts_text(count: int) -> str:
    """Return a number of attempts in words; "" for 0."""
    return ngettext("%d attempt", "%d attempts", count) % count if count else ""


@register.filter
def outcome(failure: Attempt) -> str:
    """Return the label of an attempt's outcome."""
    return str(Attempt.Outcome(failure.outcome).label)


@register.filter
def of_key(values: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key, or None."""
    return values.get(key)


@register.filter
def depth(causes: int) -> int:
    """Return the level of indentation, at most `DEEPEST`."""
    return min(causes, DEEPEST)


@register.filter
def actor(name: str, viewer: Any = None) -> str:
    """Return the user's name for "user:7", and any other actor unchanged.

    The name is a link to the user's page. With a `viewer`, a user of the admin, it is a link only
    if the viewer may open that page.
    """
    kind, _colon, pk = name.partition(":")
    if kind != "user":
        return name or NOTHING
    model = get_user_model()
    try:
        user = model._default_manager.get(pk=pk)
    except (model.DoesNotExist, ValueError, ValidationError):  # or a key of another kind
        return _("%(actor)s (deleted)") % {"actor": name}
    is_linked = viewer is None or _may_view(viewer, model)
    return link(_admin_url(user, "change", pk) if is_linked else "", user.get_username())


@register.simple_tag
def live(address: str, *, seconds: int, **query: str) -> str:
    """Return htmx attributes that replace an element by the response of `address`.

    It is requested every `seconds`, and when the page becomes visible. monitor.js suppresses
    requests while the page is hidden. If a request fails, it shows the text of the last attribute.
    """
    # monitor.js inserts the time.
    text = _("This shows the state of %(time)s. It cannot be refreshed at present.")
    return format_html(
        'hx-get="{}" hx-trigger="every {}s, visibilitychange from:document" hx-swap="outerHTML"'
        ' data-outbox-unrefreshed="{}"',
        f"{address}?{urlencode(query)}" if query else address,
        seconds,
        text % {"time": "{time}"},
    )


@register.inclusion_tag("outbox/navigation.html", takes_context=True)
def outbox_navigation(context: dict[str, Any]) -> dict[str, Any]:
    """Return the navigation: all pages of the outbox that the user may view."""
    from outbox.admin.in_database import choices, shown_copy
    from outbox.admin.pages import PAGES  # needs the models of the admin

    request = context["request"]
    pages = [one for one in PAGES if one.is_used and request.user.has_perm(one.permission)]
    return {
        "pages": pages,
        "here": request.path,
        "search": _search_field(context),
        "databases": list(choices()),
        "copy": shown_copy(request),
    }


@register.filter
def in_named_database(html: str, request: HttpRequest) -> str:
    """Return the app's index with the database that its request names in each address."""
    from outbox.admin.in_database import in_named_database  # needs the models of the admin

    return in_named_database(html, request)


@register.inclusion_tag("outbox/search_field.html", takes_context=True)
def outbox_search_field(context: dict[str, Any]) -> dict[str, Any]:
    """Return the search field, for the header of all pages of the admin: once in a page."""
    return _search_field(context)


def _search_field(context: dict[str, Any]) -> dict[str, Any]:
    request = context.get("request")
    user = getattr(request, "user", None)
    is_shown = bool(user and user.is_active and user.is_staff)
    is_shown = is_shown and not hasattr(request, "outbox_search_field")
    if is_shown:
        request.outbox_search_field = True  # type: ignore[union-attr]  # a user has a request
    return {"is_shown": is_shown}


@register.inclusion_tag("outbox/breadcrumbs.html", takes_context=True)
def outbox_breadcrumbs(context: dict[str, Any]) -> dict[str, Any]:
    """Return the path to a page that is neither a list nor a row."""
    # The admin's stylesheet of Django 6.1 expects a list.
    is_list = django.VERSION >= (6, 1)
    return {"opts": context["opts"], "title": context["title"], "is_list": is_list}


@register.simple_tag(takes_context=True)
def outbox_media(context: template.Context) -> str:
    """Return scripts and styles of a page; from Django 6.1 on with the nonce of its policy."""
    if django.VERSION < (6, 1):
        return str(context["media"].render())
    from django.utils.csp import nonce_attr

    return str(nonce_attr(context, context["media"]))


def span_of_seconds(seconds: float | None) -> str:
    """Return a number of seconds as a span; a dash for None.

    An infinite lag is beyond the last bound of its histogram: "over 2 h".
    """
    if seconds == inf:
        return _("over %s") % span(timedelta(seconds=WAIT_BOUNDS[-1]))
    return NOTHING if seconds is None else span(timedelta(seconds=seconds))


def link(url: str, text: object) -> str:
    """Return a link, or only the text for an empty URL."""
    return format_html('<a href="{}">{}</a>', url, text) if url else format_html("{}", text)


def _may_view(viewer: Any, model: type[Model]) -> bool:
    names = (get_permission_codename(action, model._meta) for action in ("view", "change"))
    return any(viewer.has_perm(f"{model._meta.app_label}.{name}") for name in names)


def _admin_url(row: object, page: str, *args: object) -> str:
    meta = row._meta  # type: ignore[attr-defined]  # any model's row
    try:
        return reverse(f"admin:{meta.app_label}_{meta.model_name}_{page}", args=args)
    except NoReverseMatch:
        return ""


def _seconds(seconds: float, *, decimals: int) -> str:
    return _("%s s") % formats.number_format(seconds, decimals)


def _pair(first: str, second: str, count: int) -> str:
    return f"{first} {second % count}" if count else first
