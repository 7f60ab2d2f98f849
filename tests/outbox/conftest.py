from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery._state import get_current_app
from pytest_django import Settings

from outbox import events, subscriptions
from outbox.models import Subscription
from outbox.privacy import subjects
from outbox.relay import dispatch
from outbox.transports import celery_refusals
from outbox.worker import calls
from tests.outbox.outages import link, lost_answer, no_health_check, outage, short_waits
from tests.outbox.two_databases import migrated_shard, shard
from tests.servers.fixtures import aws, kafka, nats, rabbitmq, valkey

__all__ = [
    "aws",
    "kafka",
    "link",
    "lost_answer",
    "migrated_shard",
    "nats",
    "no_health_check",
    "outage",
    "rabbitmq",
    "shard",
    "short_waits",
    "valkey",
]


@pytest.fixture(autouse=True)
def _current_celery_app() -> Iterator[None]:
    """Fail if a test leaves another Celery app current, whose settings later tests would change."""
    before = get_current_app()
    yield
    assert get_current_app() is before


@pytest.fixture
def own_registry(db: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Empty the registries and subscriptions, and remove the test's registrations after it.

    Events of other test modules are removed, too: all have names like "tests.<class>", so two of
    them may have the same name. Define handlers with `@subscribe` in the test, then create its
    `Outbox()`, which syncs their rows.
    """
    handlers = list(subscriptions.registry)
    known = {name: list(classes) for name, classes in events.registry.items()}
    declared = list(subjects.registry)
    subscriptions.registry.clear()
    subjects.registry.clear()
    calls._one_by_one.clear()
    _remove_events_of_other_tests(request.module.__name__)
    Subscription.objects.all().delete()
    yield
    subscriptions.registry[:] = handlers
    subjects.registry[:] = declared
    calls._one_by_one.clear()
    events.registry.clear()
    events.registry.update(known)


def _remove_events_of_other_tests(module: str) -> None:
    for name, classes in list(events.registry.items()):
        kept = [one for one in classes if not _is_of_other_tests(one.__module__, module)]
        if kept:
            events.registry[name] = sorted(kept, key=lambda one: one.__module__ == module)
        else:
            del events.registry[name]


def _is_of_other_tests(declared_in: str, module: str) -> bool:
    is_of_tests = declared_in.rpartition(".")[2].startswith("test_")
    return is_of_tests and declared_in != module


@pytest.fixture(autouse=True)
def no_rest_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the deliveries that waited for a whole message, by ids which SQLite uses again."""
    monkeypatch.setattr(dispatch, "_rest_since", {})


@pytest.fixture(autouse=True)
def no_refusals_left() -> Iterator[None]:
    """End the threads that report refused queues, before the next test uses the database."""
    yield
    keepers = list(celery_refusals._refusals._keepers.values())
    for keeper in keepers:
        keeper.refused.clear()
        keeper._ending.clear()
        keeper._changed.set()
        if (thread := keeper._thread) is not None:
            thread.join()
    celery_refusals._renew()


@pytest.fixture
def no_nudge(settings: Settings) -> None:
    """Turn nudges off, because there is no broker."""
    settings.OUTBOX = {**settings.OUTBOX, "NUDGE": False}
