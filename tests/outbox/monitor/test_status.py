"""The status of a handler: what it has from several subscriptions."""

from __future__ import annotations

import pytest

from outbox import operations, subscribe, subscriptions
from outbox.deliveries.sync import sync_subscriptions
from outbox.models import Subscription
from outbox.monitor.status import status

pytestmark = pytest.mark.usefixtures("own_registry", "db", "no_nudge")

HANDLER, REMOVED, KEPT = "tests.reserve", "shops.Accepted", "shops.Placed"


def release(*events: str, queue: str) -> None:
    """Deploy code whose handler has these events and this queue."""
    subscriptions.registry.clear()

    @subscribe(*events, name=HANDLER, queue=queue)
    def reserve() -> None: ...

    sync_subscriptions()


def queue() -> str:
    [found] = status().handlers
    return found.queue


class TestTheQueue:
    @pytest.fixture(autouse=True)
    def two_releases(self, own_registry: None) -> None:
        """The second one removes an event and changes the queue."""
        release(REMOVED, KEPT, queue="inventory")
        release(KEPT, queue="stock")

    def test_is_not_that_of_a_removed_event(self):
        """Failed: alerts and advice named the workers of a queue without messages."""
        assert Subscription.objects.get(event=REMOVED).queue == "inventory"
        assert queue() == "stock"

    def test_is_not_that_of_an_ended_event(self):
        operations.end(HANDLER, event=REMOVED, by="ann", reason="not needed")

        assert queue() == "stock"

    def test_of_an_ended_handler_is_the_last_one(self):
        operations.end(HANDLER, by="ann", reason="not needed")

        assert queue() == "stock"
