"""A customer with hanging receivers occupies few workers, and delays no other webhooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.brokers import NAMES, name_under_test
from tests.chaos.stack import Stack, running_stack
from tests.webhooks.receiver import Receiver, receiving
from webhooks.sending import MOST_OF_ONE_OWNER

pytestmark = [
    # tests/outbox/deliveries/test_shares.py tests the limit of each share on both databases.
    pytest.mark.once,
    pytest.mark.processes,
    pytest.mark.timeout(600),
    pytest.mark.skipif(name_under_test() != NAMES[0], reason="its stack has Valkey in any case"),
]

ENDPOINTS = 10
PROCESSES = 4
#: So long that no request to a receiver that hangs ends during the test.
TIMEOUT = "200"

ADD = """
import django; django.setup()
from django.contrib.auth.models import User
from webhooks import services
for name, urls in {customers!r}:
    owner, _ = User.objects.get_or_create(username=name)
    for url in urls:
        endpoint = services.add_endpoint(owner=owner, url=url, event_types=["order.placed"])
        services.ping(endpoint_id=endpoint.pk)
        services.ping(endpoint_id=endpoint.pk)
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def hanging() -> Iterator[Receiver]:
    with receiving() as receiver:
        receiver.behaviour = receiver.hang
        yield receiver


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Stack]:
    with ExitStack() as cleanup:
        shop = cleanup.enter_context(running_stack(tmp_path, settings="shop.settings"))
        shop.environment |= {
            "WEBHOOK_PRIVATE_HOSTS": "127.0.0.1",
            "WEBHOOK_TIMEOUT_SECONDS": TIMEOUT,
        }
        shop.start_relay()
        shop.start_worker(queues="webhooks.http", concurrency=PROCESSES)
        yield shop


class TestACustomerWhoseReceiversHang:
    def test_does_not_delay_the_webhooks_of_others(
        self, shop: Stack, hanging: Receiver, receiver: Receiver
    ):
        """Failed: two requests to each of ten endpoints occupied every worker process."""
        urls = [f"{hanging.url}/{number}" for number in range(ENDPOINTS)]
        shop.run("-c", ADD.format(customers=[("ann", urls)]))
        shop.wait_until(
            lambda: len(hanging.requests) >= MOST_OF_ONE_OWNER, "the slow customer is called"
        )

        shop.run("-c", ADD.format(customers=[("bob", [receiver.url])]))

        shop.wait_until(lambda: len(receiver.requests) == 2, "the other customer is called")
        assert len(hanging.requests) == MOST_OF_ONE_OWNER
