from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from outbox import events, subscriptions
from outbox.models import Subscription


@pytest.fixture
def own_registry(db: None) -> Iterator[None]:
    """An empty registry and no subscriptions; what the test registers is forgotten after it.

    Define handlers with `@subscribe` in the test, then make its `Outbox()`, which syncs their rows.
    """
    handlers = list(subscriptions.registry)
    known = {name: list(classes) for name, classes in events.registry.items()}
    subscriptions.registry.clear()
    Subscription.objects.all().delete()
    yield
    subscriptions.registry[:] = handlers
    events.registry.clear()
    events.registry.update(known)


@pytest.fixture
def no_nudge(settings: Settings) -> None:
    """There is no broker to nudge."""
    settings.OUTBOX = {**settings.OUTBOX, "NUDGE": False}
