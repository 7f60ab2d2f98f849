"""PostgreSQL ends a worker's connection during a run."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError

from outbox import DomainEvent, Receipt, emit, subscribe
from outbox.deliveries import failpoints
from outbox.models import Attempt, Delivery
from outbox.testing import Outbox
from tests.outbox.drive import run_message, run_pass
from tests.outbox.outages import cut_connection

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "no_health_check"),
]


class Counted(DomainEvent, key="order_id"):
    order_id: UUID


class Cut:
    """Ends this thread's connection from another one, once."""

    def __init__(self) -> None:
        self.is_done = False

    def __call__(self) -> None:
        if not self.is_done:
            self.is_done = True
            cut_connection()


def assert_counted_once(outbox: Outbox) -> None:
    """Assert that the event had one effect, emitted one event, and used up no attempt."""
    assert Group.objects.count() == 1
    assert len(outbox.all_emitted("tests.Counted")) == 1
    assert Delivery.objects.values_list("state", "attempts").get() == ("done", 1)
    assert not Attempt.objects.exists()


class TestAConnectionThatIsCut:
    @pytest.mark.parametrize("moment", ["before the effects", "after them", "at the receipt"])
    def test_in_a_handler_costs_no_attempt_and_repeats_no_effect(self, moment: str):
        """Rules 6 and 9. Seen to fail with `is_transient` always false, or with the receipt in a
        transaction of its own.
        """
        cut = Cut()

        @subscribe("shops.Ordered")
        def count(order_id: UUID) -> None:
            if moment == "before the effects":
                cut()
            Group.objects.create(name=str(order_id))
            emit(Counted(order_id=order_id))
            if moment == "after them":
                cut()

        outbox = Outbox()
        outbox.given("shops.Ordered", order_id=uuid4())
        at_the_receipt = cut if moment == "at the receipt" else lambda: None

        with failpoints.armed(failpoints.BEFORE_RECEIPT, at_the_receipt):
            outbox.deliver_all()

        assert cut.is_done
        assert_counted_once(outbox)

    @pytest.mark.parametrize("moment", ["before a look", "before the receipt", "in the receipt"])
    def test_in_a_handler_that_calls_an_external_system_costs_no_attempt(self, moment: str):
        """Rule 9. Seen to fail without `drop_broken_connection` in `retry_transient`."""
        cut = Cut()

        @subscribe("shops.Ordered", atomic=False)
        def charge(order_id: UUID, receipt: Receipt) -> None:
            if moment != "in the receipt":
                cut()
            if moment == "before a look":
                assert not Group.objects.exists()
            with receipt:
                Group.objects.create(name=str(order_id))
                emit(Counted(order_id=order_id))
                if moment == "in the receipt":
                    cut()

        outbox = Outbox()
        outbox.given("shops.Ordered", order_id=uuid4())

        outbox.deliver_all()

        assert cut.is_done
        assert_counted_once(outbox)

    def test_between_two_tasks_has_no_effect(self):
        """Seen to fail with the start outside of `retry_transient`: the lease had to pass."""

        @subscribe("shops.Ordered")
        def count(order_id: UUID) -> None:
            Group.objects.create(name=str(order_id))
            emit(Counted(order_id=order_id))

        outbox = Outbox()
        outbox.given("shops.Ordered", order_id=uuid4())
        [message] = run_pass()
        cut_connection()

        run_message(message)

        assert_counted_once(outbox)

    def test_does_not_excuse_a_handler_that_raises(self):
        """Seen to fail with `settlement.fail` outside of `retry_transient`: nobody took note."""

        @subscribe("shops.Ordered", atomic=False)
        def charge(receipt: Receipt) -> None:
            cut_connection()
            raise ValueError

        outbox = Outbox()
        outbox.given("shops.Ordered", order_id=uuid4())

        outbox.deliver_all(raise_errors=False)

        assert Delivery.objects.values_list("state", "attempts").get() == ("pending", 1)
        assert Attempt.objects.get().exception == "ValueError"

    def test_leaves_no_partial_effect_if_the_handler_hides_the_error(self):
        cut = Cut()

        @subscribe("shops.Ordered")
        def count(order_id: UUID) -> None:
            Group.objects.create(name=str(order_id))
            cut()
            with suppress(DatabaseError):
                emit(Counted(order_id=order_id))

        outbox = Outbox()
        outbox.given("shops.Ordered", order_id=uuid4())

        outbox.deliver_all()

        assert_counted_once(outbox)
