"""Concurrent requests and workers, each on its own connection."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest
from django.db import connection, transaction

from tests.orders.factories import customer
from tests.threads import in_thread, run_together, wait_until_blocked
from webhooks import log, sending, services
from webhooks.models import Endpoint, Message
from webhooks.posting import Answer

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


class TestARemoval:
    def test_waits_for_a_worker_that_records_an_answer(self):
        """P: seen to end in a deadlock without a lock on the endpoint."""
        if connection.vendor != "postgresql":
            pytest.skip("SQLite has one writer at a time.")
        endpoint = add()
        message = sending._begin(services.ping(endpoint_id=endpoint.pk).pk)
        assert message is not None

        with transaction.atomic():
            Endpoint.objects.locked(endpoint.pk)  # as `_record` begins
            removal = in_thread(lambda: services.remove_endpoint(endpoint_id=endpoint.pk))
            wait_until_blocked(1)
            sending._record(message, Answer(status=204))

        assert removal() is None
        assert not Endpoint.objects.exists()

    def test_waits_for_a_worker_that_logs_a_postponement(self):
        """P: seen to end in a deadlock with the message locked before the endpoint."""
        if connection.vendor != "postgresql":
            pytest.skip("SQLite has one writer at a time.")
        endpoint = add()
        message = services.ping(endpoint_id=endpoint.pk)

        with transaction.atomic():
            log.log_postponement(message.pk, why="It rests.")
            removal = in_thread(lambda: services.remove_endpoint(endpoint_id=endpoint.pk))
            wait_until_blocked(1)

        assert removal() is None
        assert not Endpoint.objects.exists()
