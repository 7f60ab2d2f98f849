from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.inventory.factories import put_on_sale
from tests.orders.factories import customer, place
from tests.webhooks.receiver import Receiver, receiving
from webhooks import services
from webhooks.models import Endpoint


@pytest.fixture
def receiver(settings) -> Iterator[Receiver]:
    """A customer's system that we may call although it is on loopback."""
    settings.WEBHOOK_PRIVATE_HOSTS = ["127.0.0.1"]
    settings.WEBHOOK_TIMEOUT_SECONDS = 60  # a busy machine takes its time
    with receiving() as one:
        yield one


@pytest.fixture
def endpoint(db, receiver) -> Endpoint:
    return services.add_endpoint(
        owner=customer(), url=receiver.url, event_types=["order.placed", "order.refunded"]
    )


@pytest.fixture
def order(db):
    put_on_sale()
    return place()
