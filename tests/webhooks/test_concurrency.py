"""Concurrent requests and workers, each on its own connection."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest

from tests.orders.factories import customer
from tests.threads import run_together
from webhooks import sending, services
from webhooks.models import Endpoint, Message

pytestmark = pytest.mark.django_db(transaction=True)

URL = "https://1.1.1.1/"


def add() -> Endpoint:
    return services.add_endpoint(owner=customer(), url=URL, event_types=[])


class TestConcurrentRequests:
    def test_do_not_exceed_the_maximum_of_endpoints(self):
        """P: seen to fail without the lock on the owner."""
        for _ in range(services.MOST_ENDPOINTS - 1):
            add()

        def one_more() -> None:
            with suppress(services.TooManyEndpoints):
                add()

        run_together([one_more] * 4)

        assert Endpoint.objects.count() == services.MOST_ENDPOINTS

    def test_send_one_message_to_a_failing_endpoint(self):
        """P: seen to fail with the endpoint read without its lock."""
        endpoint = add()
        messages = [services.ping(endpoint_id=endpoint.pk).pk for _ in range(4)]
        Endpoint.objects.update(failures=1)

        def begin(message_id) -> None:
            with suppress(sending.Postponed):
                sending._begin(message_id)

        run_together([partial(begin, pk) for pk in messages])

        assert Message.objects.exclude(sending_until=None).count() == 1
