"""The messages in the broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection

from outbox import (
    subscribe,  # it registers the task of a message
)
from outbox.models import Delivery, Subscription
from outbox.relay.passes import relay
from outbox.testing import Outbox
from outbox.transports.celery_broker import CeleryTransport
from tests.outbox.project.celery import app as default_app

SECRET = "4-1 Marunouchi"

pytestmark = pytest.mark.usefixtures("own_registry")


@pytest.fixture
def broker() -> Iterator[Connection]:
    """A broker in memory, and a Celery app of this test that uses it."""
    app = Celery("test", broker="memory://")
    app.set_current()
    try:
        with app.connection_for_read() as connection:
            yield connection
    finally:
        default_app.set_current()
        app.close()


def received(broker: Connection, queue: str) -> list[Any]:
    """Read and remove all messages of a queue."""
    with broker.SimpleQueue(queue) as waiting:
        return [waiting.get(block=False) for _ in range(waiting.qsize())]


class TestAMessage:
    def test_contains_only_names_ids_and_tokens(self, broker: Connection):
        """Rule 4. `refill` requests a nudge from the worker; the subscription names their handler.

        Seen to fail with the event's payload, key or name added to `Message`.
        """

        @subscribe("shops.Ordered", queue="labels", batch=2)
        def print_label(order_id: str, address: str) -> None: ...

        outbox = Outbox()
        for _ in range(3):
            outbox.given("shops.Ordered", order_id=uuid4(), address=SECRET)

        relay(publish=CeleryTransport().dispatch)

        first, second, third = Delivery.objects.order_by("id").values_list("id", flat=True)
        row = Subscription.objects.get()
        messages = received(broker, "labels")
        arguments = [json.loads(message.body)[:2] for message in messages]
        assert arguments == [
            [["tests.print_label", pairs], {"subscription": row.pk, "refill": is_last}]
            for pairs, is_last in [([[first, 1], [second, 1]], False), ([[third, 1]], True)]
        ]
        everything = "".join(f"{message.body} {message.headers}" for message in messages)
        assert SECRET not in everything

    def test_leaves_every_delay_and_retry_to_the_database(self, broker: Connection):
        """Rule 10. Seen to fail with `countdown=` or `expires=` in `dispatch`."""

        @subscribe("shops.Ordered", queue="labels")
        def print_label() -> None: ...

        Outbox().given("shops.Ordered", order_id=uuid4())

        relay(publish=CeleryTransport().dispatch)

        [message] = received(broker, "labels")
        asked = {name: message.headers[name] for name in ("eta", "expires", "retries")}
        assert asked == {"eta": None, "expires": None, "retries": 0}

    def test_holds_the_deliveries_of_one_handler(self, broker: Connection):
        """Rule 14. Seen to fail with what is claimed cut into messages by queue."""

        @subscribe("shops.Ordered", "shops.Shipped", queue="labels")
        def print_label() -> None: ...

        @subscribe("shops.Ordered", queue="labels")
        def count() -> None: ...

        outbox = Outbox()
        for name in ("shops.Ordered", "shops.Shipped", "shops.Ordered"):
            outbox.given(name, order_id=uuid4())

        relay(publish=CeleryTransport().dispatch)

        for message in received(broker, "labels"):
            [handler, pairs], _ = json.loads(message.body)[:2]
            rows = Delivery.objects.filter(id__in=[pair[0] for pair in pairs])
            assert set(rows.values_list("subscription__handler", flat=True)) == {handler}
            assert len(rows) == len(pairs)
