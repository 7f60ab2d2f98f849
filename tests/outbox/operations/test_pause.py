"""A pause holds every later start, also a start that waits for a lock."""

from __future__ import annotations

import pytest
from django.db import transaction

from outbox import clock, operations, subscribe
from outbox.models import Delivery, Subscription
from tests.outbox.drive import run_message, states_and_attempts
from tests.outbox.outages import new_message
from tests.threads import aside, in_thread, wait_until_blocked

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


@pytest.mark.parametrize("ordered", [False, True])
class TestAPause:
    def test_holds_a_start_that_waits_for_the_lock_of_a_row(self, ordered: bool):
        """A redaction locks the delivery, and changes nothing of it. Failed for both kinds."""
        runs: list[int] = []

        @subscribe("tests.Counted", ordered=ordered)
        def count() -> None:
            runs.append(1)

        message = new_message()
        with transaction.atomic():
            list(Delivery.objects.select_for_update())
            worker = in_thread(lambda: run_message(message))
            wait_until_blocked(1)
            aside(lambda: operations.pause("tests.count", by="ann", reason="stop"))
        worker()

        assert runs == []
        [(state, attempts)] = states_and_attempts()
        assert state in ("pending", "parked")
        assert attempts == 0


class TestABreakerThatOpens:
    def test_holds_a_start_that_waits_for_the_lock_of_a_row(self):
        runs: list[int] = []

        @subscribe("tests.Counted")
        def count() -> None:
            runs.append(1)

        message = new_message()
        with transaction.atomic():
            list(Delivery.objects.select_for_update())
            worker = in_thread(lambda: run_message(message))
            wait_until_blocked(1)
            aside(_open_the_breaker)
        worker()

        assert (runs, states_and_attempts()) == ([], [("pending", 0)])


def _open_the_breaker() -> None:
    Subscription.objects.update(breaker_opened_at=clock.now(), breaker_failures=5)
