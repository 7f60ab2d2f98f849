"""System checks of `manage.py check`, for references by name that no import verifies.

Each message begins with the place of the handler or event, "path:line". The tag is `outbox`. The
other modules check one handler and its policy (handlers.py), its parameters against its events
(contracts.py), one event and its versions (event_classes.py), the settings (settings.py), sinks
(sinks.py), sources (sources.py), settlements (settlements.py), several databases (databases.py),
Celery (celery.py, celery_calls.py, sqs.py, broker_certificates.py), and lost hosts
(broker_hosts.py, database_hosts.py). The messages here:

    E008 two handlers have one pinned name
    E009 a handler takes over, by `formerly`, the name of another handler
    E010 two event classes have one name
    E023 an owed delivery could not be read, or would have no handler (contracts/rehearsal.py);
         only by `manage.py check --deploy --database default`
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from outbox import events, subscriptions
from outbox.contracts.catalogue import place
from outbox.contracts.rehearsal import rehearse
from outbox.models import Delivery
from outbox.subscriptions import Handler

from .broker_certificates import check_broker_certificates  # noqa: F401  the import registers the check
from .broker_hosts import check_broker_hosts  # noqa: F401  the import registers the check
from .celery import check_celery  # noqa: F401  the import registers the check
from .celery_calls import check_celery_calls  # noqa: F401  the import registers the check
from .contracts import check_contract
from .database_hosts import check_database_hosts  # noqa: F401  the import registers the check
from .databases import usable
from .event_classes import check_event, check_lock, check_sensitive, check_upcasters, check_versions
from .handlers import check_handler, check_policy
from .settings import settings_messages
from .settlements import check_settlements
from .sinks import check_sinks
from .sources import check_external_events, check_sources
from .sqs import check_sqs  # noqa: F401  the import registers the check


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
        *check_external_events(),
    ]


@register("outbox")
def check_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Find invalid settings, missing packages, and a database that would fail under load."""
    return [*settings_messages(), *check_sinks(), *check_sources(), *check_settlements()]


@register(Tags.database, deploy=True)
def check_owed(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """Rehearse the owed deliveries, of the outbox's databases among the given ones."""
    return [problem for using in usable() if using in (databases or ()) for problem in _owed(using)]


def _owed(using: str) -> list[CheckMessage]:
    if Delivery._meta.db_table not in connections[using].introspection.table_names():
        return []
    found = rehearse(using=using)
    return [
        Error(
            f"{problem.handler} cannot handle {number} owed deliveries of {problem.event}, "
            f"version {problem.version}: {problem.reason}.",
            hint=f"Examples for `manage.py outbox why`: {', '.join(found.examples[problem])}.",
            obj="outbox",
            id="outbox.E023",
        )
        for problem, number in found.problems.items()
    ]


def _same_handlers() -> Iterator[CheckMessage]:
    for one, other in combinations(subscriptions.registry, 2):
        if one.name == other.name:
            yield Error(
                f"The pinned name {other.name} belongs to another handler, too ({place(one)}).",
                hint=f'Pin another name: @subscribe(..., name="{other.app_label}.another_name").',
                obj=place(other),
                id="outbox.E008",
            )


def _takeovers() -> Iterator[CheckMessage]:
    for one, other in permutations(subscriptions.registry, 2):
        if other.name in one.formerly:
            yield _not_free(one, f"{other.name}, which still exists ({place(other)})")
    for one, other in combinations(subscriptions.registry, 2):
        for name in sorted(set(one.formerly) & set(other.formerly)):
            yield _not_free(other, f"{name}, and so does {one.name} ({place(one)})")


def _not_free(handler: Handler, what: str) -> CheckMessage:
    return Error(
        f"{handler.name} takes over the deliveries of {what}.",
        hint="List a name in formerly= of one handler only, and after no handler has it any more.",
        obj=place(handler),
        id="outbox.E009",
    )


def _same_events() -> Iterator[CheckMessage]:
    for name, known in sorted(events.registry.items()):
        for one, other in combinations(known, 2):
            yield Error(
                f"The event name {name} belongs to another class, too ({place(one)}).",
                hint="The name of an event is its app label and class name. Rename one class.",
                obj=place(other),
                id="outbox.E010",
            )
