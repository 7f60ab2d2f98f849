"""System checks of `manage.py check`, for references by name that no import verifies.

Each message begins with the place of the handler or event, "path:line". The tag is `outbox`. The
other modules check one handler (handlers.py), its policy (policy.py), its parameters against its
events (contracts.py), stored versions (versions.py) and the database (database.py). Here:

    E008 two handlers have one pinned name
    E009 a handler takes over, by `formerly`, the name of another handler
    E010 two event classes have one name
    E012 OUTBOX has an unknown key or a value of the wrong type
    W021 OUTBOX["RETENTION"] names an event that no app declares
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import combinations, permutations
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from outbox import events, subscriptions
from outbox.conf import Conf
from outbox.contracts.catalogue import place
from outbox.subscriptions import Handler

from .contracts import check_contract, check_event, did_you_mean
from .database import check_database
from .extras import check_extras
from .handlers import check_handler
from .policy import check_policy
from .sensitive import check_sensitive
from .versions import check_lock, check_upcasters, check_versions

_PROPER = {
    bool: "True or False",
    type(None): "True, False or None",
    int: "a whole number above zero",
    float: "a number above zero",
    dict: 'event names, or "default", each with a number of days above zero, or None: for ever',
}

_PROPER_TEXT = {
    "ARCHIVE": "a folder's path",
    "TRACE_URL": "an address with {trace_id} in it",
    "METRICS_TOKEN": "what a scraper brings as its token",
}


@register("outbox")
def check_contracts(
    app_configs: Sequence[AppConfig] | None = None, **_kwargs: Any
) -> list[CheckMessage]:
    """Compare parameters of handlers with fields of events, of the given apps or of all."""
    labels = {config.label for config in app_configs} if app_configs is not None else None
    declared = [event for known in events.registry.values() for event in known]
    found: list[CheckMessage] = []
    for event in declared:
        if labels is None or event.event_name.partition(".")[0] in labels:
            found += [*check_event(event), *check_versions(event), *check_sensitive(event)]
    for config in apps.get_app_configs() if app_configs is None else app_configs:
        found += check_lock(config)
    for handler in subscriptions.registry:
        if labels is None or handler.app_label in labels:
            found += [*check_handler(handler), *check_policy(handler), *check_contract(handler)]
    return found


@register("outbox")
def check_names(**_kwargs: Any) -> list[CheckMessage]:
    """Find duplicate pinned names, event names and upcasters."""
    return [
        *_same_handlers(),
        *_takeovers(),
        *_same_events(),
        *check_upcasters(),
    ]


@register("outbox")
def check_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Find invalid settings, missing packages, and a database that would fail under load."""
    return [
        *_unknown_settings(),
        *_wrong_settings(),
        *_unknown_events(),
        *check_database(),
        *check_extras(),
    ]


def _same_handlers() -> Iterator[CheckMessage]:
    for one, other in combinations(subscriptions.registry, 2):
        if one.name == other.name:
            yield Error(
                f"{other.name} is the pinned name of another handler too, at {place(one)}.",
                hint=f'Pin another name: @subscribe(..., name="{other.app_label}.another_name").',
                obj=place(other),
                id="outbox.E008",
            )


def _takeovers() -> Iterator[CheckMessage]:
    for one, other in permutations(subscriptions.registry, 2):
        if other.name in one.formerly:
            yield _not_free(one, f"{other.name}, which is still there, at {place(other)}")
    for one, other in combinations(subscriptions.registry, 2):
        for name in sorted(set(one.formerly) & set(other.formerly)):
            yield _not_free(other, f"{name}, and so does {one.name}, at {place(one)}")


def _not_free(handler: Handler, what: str) -> CheckMessage:
    return Error(
        f"{handler.name} takes over from {what}.",
        hint="formerly= names what no handler has any more: only one can take over its debts.",
        obj=place(handler),
        id="outbox.E009",
    )


def _same_events() -> Iterator[CheckMessage]:
    for name, known in sorted(events.registry.items()):
        for one, other in combinations(known, 2):
            yield Error(
                f"{name} is the name of another event too, at {place(one)}.",
                hint="Handlers find an event by app label and class name: rename one class.",
                obj=place(other),
                id="outbox.E010",
            )


def _unknown_settings() -> Iterator[CheckMessage]:
    known = [field.name for field in fields(Conf)]
    for name in sorted(set(getattr(settings, "OUTBOX", {})) - set(known)):
        yield Error(
            f"OUTBOX has no setting {name}.",
            hint=did_you_mean(name, known) or f"It has {', '.join(known)}.",
            obj="settings",
            id="outbox.E012",
        )


def _wrong_settings() -> Iterator[CheckMessage]:
    given = getattr(settings, "OUTBOX", {})
    for field in fields(Conf):
        default = getattr(Conf(), field.name)
        value, kind = given.get(field.name, default), type(default)
        if not _is_proper(value, kind):
            proper = f"a text, {_PROPER_TEXT[field.name]}" if kind is str else _PROPER[kind]
            yield Error(
                f'OUTBOX["{field.name}"] is {value!r}.',
                hint=f"It must be {proper}.",
                obj="settings",
                id="outbox.E012",
            )


def _is_proper(value: Any, kind: type[Any]) -> bool:
    if kind is type(None):
        return value is None or isinstance(value, bool)
    if kind is bool or isinstance(value, bool):
        return isinstance(value, kind) and kind is bool
    if kind is str:
        return isinstance(value, str)
    if kind is dict:
        return isinstance(value, dict) and all(
            one is None or _is_proper(one, float) for one in value.values()
        )
    return isinstance(value, (int, kind)) and value > 0


def _unknown_events() -> Iterator[CheckMessage]:
    given = getattr(settings, "OUTBOX", {}).get("RETENTION", {})
    names = set(given) if isinstance(given, dict) else set()
    for name in sorted(names - {"default", *events.registry}):
        yield Warning(
            f'OUTBOX["RETENTION"] keeps {name}, which no installed app declares.',
            hint=did_you_mean(name, events.registry),
            obj="settings",
            id="outbox.W021",
        )
