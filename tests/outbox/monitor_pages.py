"""Addresses of all pages of the outbox's admin, with common filters."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode
from uuid import uuid4

from django.urls import reverse

from outbox.models import Delivery, Settlement
from tests.outbox.history import CONSUMER, RARE_CONSUMER, History


def pages(history: History) -> dict[str, str]:
    """Return the address of each page, by its content."""
    event, delivery = history.middle, Delivery.objects.filter(event=history.middle).earliest("pk")
    return {
        "overview": _url("minute_changelist"),
        "overview, its live part": _url("minute_part"),
        "health checks": _url("minute_health_checks"),
        "periodic tasks": _url("minute_periodic"),
        "contracts": _url("minute_contracts"),
        **_events(history),
        "an event": _url("event_change", event),
        "a timeline": _url("event_timeline", q=history.key),
        "a row's condition": _url("event_timeline_condition", q=history.key),
        "a timeline, its live part": _url("event_timeline_part", q=history.key),
        "the timeline of a correlation id": _url("event_timeline", q=history.correlation),
        "the timeline of nothing": _url("event_timeline", q=str(uuid4())),
        **_deliveries(history, delivery.pk),
        "a delivery": _url("delivery_change", delivery.pk),
        "a dead delivery": _url("delivery_change", Delivery.objects.filter(state="dead")[0].pk),
        "dead letters": _url("delivery_dead"),
        "blocked keys": _url("delivery_blocked"),
        "handlers": _url("subscription_handlers"),
        "handlers, their live part": _url("subscription_handlers_part"),
        "subscriptions": _url("subscription_changelist"),
        "map": _url("subscription_map"),
        "delayed events": _url("delayedevent_changelist"),
        "operations": _url("operation_changelist"),
        **_settlements(history, delivery.pk),
    }


def _events(history: History) -> Mapping[str, str]:
    filters: dict[str, dict[str, object]] = {
        "": {},
        "a page in the middle": {"older": history.middle},
        "owed": {"state": "owed"},
        "waiting": {"state": "waiting"},
        "dead": {"state": "dead"},
        "discarded": {"state": "discarded"},
        "done": {"state": "done"},
        "of the last hour": {"since": "1h"},
        "of the last quarter": {"since": "15m"},
        "of the last week": {"since": "7d"},
        "of the last quarter, dead": {"since": "15m", "state": "dead"},
        "of an app": {"app": history.rare.partition(".")[0]},
        "of a seldom name": {"name": history.rare},
        "of a seldom name, dead": {"name": history.rare, "state": "dead"},
        "of a seldom name, of the last week": {"name": history.rare, "since": "7d"},
        "of a key": {"q": history.key},
        "of a correlation id": {"q": history.correlation},
        "of nothing": {"q": str(uuid4())},
        "of a key, done": {"q": history.key, "state": "done"},
    }
    return {
        _named("events", text): _url("event_changelist", **query) for text, query in filters.items()
    }


def _deliveries(history: History, delivery: int) -> Mapping[str, str]:
    filters: dict[str, dict[str, object]] = {
        "": {},
        "a page in the middle": {"older": delivery},
        **{state: {"state": state} for state in ("owed", *Delivery.State.values)},
        **{f"due {when}": {"due": when} for when in ("now", "later", "lapsed")},
        "of a seldom handler": {"handler": history.rare_handler},
        "of a seldom handler, done": {"handler": history.rare_handler, "state": "done"},
        "of a seldom handler, dead": {"handler": history.rare_handler, "state": "dead"},
        "of a number": {"q": delivery},
        "of a key": {"q": history.key},
        "of nothing": {"q": str(uuid4())},
    }
    return {
        _named("deliveries", text): _url("delivery_changelist", **query)
        for text, query in filters.items()
    }


def _settlements(history: History, delivery: int) -> Mapping[str, str]:
    filters: dict[str, dict[str, object]] = {
        "": {},
        "a page in the middle": {"older": Settlement.objects.get(delivery=delivery).pk},
        **{state: {"state": state} for state in ("waiting", "late", "missing", "settled")},
        "of a consumer": {"consumer": CONSUMER},
        "of a consumer, late": {"consumer": CONSUMER, "state": "late"},
        "of a seldom consumer": {"consumer": RARE_CONSUMER},
        "of a seldom consumer, settled": {"consumer": RARE_CONSUMER, "state": "settled"},
        "of a seldom consumer, missing": {"consumer": RARE_CONSUMER, "state": "missing"},
        "of a seldom sink": {"sink": history.rare_handler},
        "of a seldom sink, settled": {"sink": history.rare_handler, "state": "settled"},
        "of a delivery": {"q": delivery},
        "of nothing": {"q": str(uuid4())},
    }
    return {
        _named("settlements", text): _url("settlement_changelist", **query)
        for text, query in filters.items()
    }


def _named(page: str, text: str) -> str:
    return f"{page}, {text}" if text and not text.startswith("of ") else f"{page} {text}".strip()


def _url(name: str, /, *arguments: object, **query: object) -> str:
    url = reverse(f"admin:outbox_{name}", args=arguments)
    return f"{url}?{urlencode(query)}" if query else url
