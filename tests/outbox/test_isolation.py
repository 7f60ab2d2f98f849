"""A failed, slow or held delivery delays no other (rules 9, 11 and 14)."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
import time_machine

from outbox import PermanentFailure, Receipt, operations, subscribe
from outbox.deliveries import lease
from outbox.models import Attempt, Delivery
from outbox.testing import Outbox
from outbox.worker import batch
from tests.outbox.drive import emit_orders, run_pass, states

pytestmark = pytest.mark.usefixtures("own_registry")


class TestAKey:
    @pytest.mark.parametrize("error", [ValueError, PermanentFailure])
    def test_that_fails_delays_no_other_key_of_its_message(self, error: type[Exception]):
        """Rule 14. Seen to fail with `_run` raising what a handler raised."""

        @subscribe("shops.Ordered")
        def count(number: int) -> None:
            if number == 1:
                raise error

        outbox = emit_orders(4)

        outbox.deliver_all(raise_errors=False)

        [first, second, *rest] = states()
        assert {first, *rest} == {"done"}
        assert second in {"pending", "dead"}


class TestAParkedDelivery:
    def test_costs_a_pass_no_read(self, django_assert_num_queries):
        """Rule 14. Seen to fail with parked work of a paused handler among what is busy."""

        @subscribe("shops.Ordered")
        def count() -> None: ...

        emit_orders(5)
        operations.pause("tests.count", by="ann", reason="a test")
        run_pass()
        assert set(states()) == {"parked"}

        with django_assert_num_queries(2):
            assert run_pass() == []

    def test_uses_no_slot_of_the_window(self):
        """Rule 14. Seen to fail with parked deliveries counted as in flight."""

        @subscribe("shops.Ordered", "shops.Shipped", window=2)
        def count() -> None: ...

    def test_is_not_sent_with_due_deliveries(self):
        """Rule 14. Seen to fail with "parked" among the states that `claim` looks for."""

        @subscribe("shops.Ordered")
        def count() -> None: ...

        @subscribe("shops.Ordered")
        def print_label() -> None: ...

        emit_orders(2)
        operations.pause("tests.count", by="ann", reason="a test")
        run_pass()
        emit_orders(2)

        messages = run_pass()

        assert {message.handler for message in messages} == {"tests.print_label"}

    def test_is_in_no_index_of_due_deliveries(self):
        """Rule 14. Seen to fail with "parked" in the condition of `outbox_delivery_pending`."""
        due = {
            index.name: dict(index.condition.children)["state"]
            for index in Delivery._meta.indexes
            if index.condition and "due_at" in index.fields
        }

        assert due == {
            "outbox_delivery_pending": "pending",
            "outbox_delivery_failing": "pending",
            "outbox_delivery_priority": "pending",
            "outbox_delivery_share": "pending",
            "outbox_delivery_sent": "sent",
            "outbox_delivery_blocked": "blocked",  # the relay looks again, seldom
        }


class TestASlowHandler:
    @pytest.fixture(autouse=True)
    def leases_by_the_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let workers measure the age of leases by the clock that the test shifts."""
        shifted = SimpleNamespace(monotonic=lambda: time.time(), sleep=time.sleep)
        monkeypatch.setattr(lease, "time", shifted)
        monkeypatch.setattr(batch, "time", shifted)

    @pytest.mark.parametrize("shares", [True, False], ids=["together", "alone"])
    def test_may_take_its_whole_lease_for_each_delivery_of_a_batch(self, shares):
        """Rule 11. Seen to fail with a lease that is not extended, or by a lease alone: the
        relay takes a worker for dead that is not.
        """
        start = datetime.fromisoformat("2030-01-01T00:00:00Z")

        @subscribe("shops.Ordered", batch=5, lease=100, shared_transaction=shares)
        def count(number: int) -> None:
            clock.shift(timedelta(seconds=30 if number % 2 else 99))
            run_pass()

        with time_machine.travel(start, tick=False) as clock:
            outbox = emit_orders(5)
            outbox.deliver_all()

        assert states() == ["done"] * 5
        assert not Attempt.objects.exists()
        assert set(Delivery.objects.values_list("token", flat=True)) == {1}

    def test_leaves_the_last_of_a_message_its_whole_time_limit(self):
        """Failed: a renewal during the first run left the other delivery less than its limit, so
        the relay recorded the death of a worker that was alive.
        """
        begin = datetime.fromisoformat("2030-01-01T00:00:00Z")

        @subscribe("shops.Ordered", batch=2, lease=100, atomic=False)
        def call(number: int, receipt: Receipt) -> None:
            clock.shift(timedelta(seconds=85 if number else 40))
            if number == 0:
                receipt.extend()
                clock.shift(timedelta(seconds=30))
            run_pass()
            with receipt:
                pass

        with time_machine.travel(begin, tick=False) as clock:
            outbox = emit_orders(2)
            outbox.deliver_all()

        assert states() == ["done"] * 2
        assert not Attempt.objects.exists()


class TestACompensation:
    def test_has_no_last_attempt(self):
        """Rule 9. Seen to fail with `limit` compared although it is None, as if it were 45."""
        outcomes: list[int] = []

        @subscribe("shops.Cancelled", attempts=None, backoff_base=0)
        def give_back(attempt: int) -> None:
            outcomes.append(attempt)
            if attempt < 60:
                raise ValueError

        outbox = Outbox()
        outbox.given("shops.Cancelled", order_id=uuid4())

        outbox.deliver_all(raise_errors=False)

        assert outcomes == list(range(1, 61))
        assert states() == ["done"]
